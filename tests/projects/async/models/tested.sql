{{ config(materialized='table', enabled=var('break', false)) }}
select null::int as id
