{{ config(materialized='view', enabled=var('break', false)) }}
select * from {{ ref('broken') }} cross join {{ ref('tested') }}
