select
    category,
    count(*) as product_count,
    sum(units_sold) as units_sold,
    sum(revenue) as revenue,
    sum(margin) as margin
from {{ ref('product_sales') }}
group by category
