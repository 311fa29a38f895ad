{{ config(materialized='table') }}
select name, amount from {{ ref('totals') }} join {{ ref('raw_customers') }} on id = customer
