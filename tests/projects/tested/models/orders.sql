select * from (values (1, 10), (2, null), (3, null), (4, 99)) as orders (order_id, customer_id)
