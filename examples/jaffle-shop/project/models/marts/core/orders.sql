with paid as (

    select order_id, sum(amount) as paid_amount
    from {{ ref('stg_payments') }}
    group by order_id

)

select
    orders.order_id,
    orders.customer_id,
    orders.ordered_at,
    orders.order_date,
    orders.status,
    amounts.item_count,
    amounts.order_amount,
    coalesce(paid.paid_amount, 0) as paid_amount
from {{ ref('stg_orders') }} as orders
inner join {{ ref('int_order_amounts') }} as amounts using (order_id)
left join paid using (order_id)
