select
    cast(date_trunc('month', order_date) as date) as month,
    sum(order_count) as order_count,
    sum(revenue) as revenue,
    sum(revenue) - lag(sum(revenue)) over (order by date_trunc('month', order_date)) as change
from {{ ref('daily_revenue') }}
group by date_trunc('month', order_date)
