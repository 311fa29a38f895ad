select customer_id, count(*) as order_count from {{ ref('orders') }} group by customer_id
