select
    items.order_item_id,
    items.order_id,
    orders.order_date,
    orders.status,
    items.product_id,
    products.category,
    items.quantity,
    items.quantity * products.unit_price as revenue
from {{ ref('stg_order_items') }} as items
inner join {{ ref('stg_orders') }} as orders using (order_id)
inner join {{ ref('stg_products') }} as products using (product_id)
