{{ config(materialized='incremental', unique_key='order_date', incremental_strategy='delete+insert') }}

select
    order_date,
    count(*) as order_count,
    sum(paid_amount) as revenue
from {{ ref('orders') }}
{% if is_incremental() -%}
-- The last day that was loaded may have been incomplete: load it again.
where order_date >= (select max(order_date) from {{ this }})
{% endif -%}
group by order_date
