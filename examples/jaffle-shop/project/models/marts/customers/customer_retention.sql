-- Of those whose first order was in a month: how many ordered again later, and for how much.
select
    cast(date_trunc('month', customers.first_order_on) as date) as cohort,
    count(distinct customers.customer_id) as customer_count,
    count(distinct customers.customer_id) filter (where orders.order_date > customers.first_order_on) as returned_count,
    coalesce(sum(amounts.order_amount) filter (where orders.order_date > customers.first_order_on), 0) as returned_amount
from {{ ref('customers') }} as customers
inner join {{ ref('stg_orders') }} as orders using (customer_id)
inner join {{ ref('int_order_amounts') }} as amounts using (order_id)
group by cohort
