{{ config(materialized='ephemeral') }}

-- What an order's items add up to; inlined into the models that read it.
select
    items.order_id,
    sum(items.quantity) as item_count,
    sum(items.quantity * products.unit_price) as order_amount
from {{ ref('stg_order_items') }} as items
inner join {{ ref('stg_products') }} as products using (product_id)
group by items.order_id
