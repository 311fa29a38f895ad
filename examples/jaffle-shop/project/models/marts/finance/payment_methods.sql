select
    payments.payment_method,
    count(distinct payments.order_id) as order_count,
    sum(payments.amount) as amount
from {{ ref('stg_payments') }} as payments
inner join {{ ref('orders') }} as orders using (order_id)
group by payments.payment_method
