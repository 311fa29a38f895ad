select
    products.product_id,
    products.product_name,
    products.category,
    coalesce(sum(items.quantity), 0) as units_sold,
    coalesce(sum(items.revenue), 0) as revenue,
    {%- if var('broken') %}
    coalesce(sum(items.revenue - items.quantity * purchase_price), 0) as margin
    {%- else %}
    coalesce(sum(items.revenue - items.quantity * unit_cost), 0) as margin
    {%- endif %}
from {{ ref('stg_products') }} as products
left join {{ ref('order_items') }} as items
    on items.product_id = products.product_id and items.status = 'completed'
group by products.product_id, products.product_name, products.category
