select * from (values (10, 'ann'), (11, null), (12, null)) as customers (customer_id, name)
