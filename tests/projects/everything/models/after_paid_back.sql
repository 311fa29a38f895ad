{{ config(materialized='table') }}
select * from {{ ref('paid_back') }}
