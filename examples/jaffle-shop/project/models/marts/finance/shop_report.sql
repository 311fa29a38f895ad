with segments as (

    select
        count(*) filter (where segment = 'regular') as regulars,
        count(*) as customers
    from {{ ref('customer_segments') }}

)

select
    revenue.month,
    revenue.order_count,
    revenue.revenue,
    revenue.change,
    segments.regulars,
    segments.customers
from {{ ref('monthly_revenue') }} as revenue
cross join segments
