select
    row_number() over (order by margin desc, product_id) as place,
    product_id,
    product_name,
    category,
    margin
from {{ ref('product_sales') }}
qualify place <= 5
