{{ config(materialized='table') }}
select id * 2 as id from {{ ref('agreed') }}
