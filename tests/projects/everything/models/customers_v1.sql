{{ config(materialized='table') }}
select customer_id, sum(amount) as total from {{ ref('stg_payments') }} group by customer_id
