select * from (values (1, 'apple'), (2, null)) as products (product_id, name)
