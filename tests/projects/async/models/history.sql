{{ config(materialized='incremental') }}
select * from {{ ref('report') }}
