{{ config(materialized='incremental', enabled=var('break', false)) }}
select * from {{ ref('tested') }}
