{{ config(materialized='materialized_view', enabled=target.type == 'postgres') }}
select customer_id, max(amount) as largest from {{ ref('stg_payments') }} group by customer_id
