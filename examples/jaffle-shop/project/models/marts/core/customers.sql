select
    customers.customer_id,
    customers.customer_name,
    customers.city,
    customers.signed_up_on,
    min(orders.order_date) as first_order_on,
    max(orders.order_date) as last_order_on,
    count(orders.order_id) as order_count,
    coalesce(sum(orders.paid_amount), 0) as lifetime_amount
from {{ ref('stg_customers') }} as customers
left join {{ ref('orders') }} as orders using (customer_id)
group by all
