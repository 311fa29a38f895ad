select order_id from {{ ref('orders') }} where customer_id not in (select customer_id from {{ ref('customers') }})
