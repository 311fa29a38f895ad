{{ config(materialized='table') }}
select count(*) as rows from {{ ref('history') }}
