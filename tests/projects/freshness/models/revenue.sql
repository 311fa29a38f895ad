{{ config(materialized='view') }}
select o.id as orders from {{ ref('stg_orders') }} as o cross join {{ ref('stg_rates') }}
