{{ config(materialized='ephemeral') }}
select * from {{ ref('orders') }} where id > {{ var('since', 5) }}
