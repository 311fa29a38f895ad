{{ config(materialized='ephemeral') }}
select 1 as id
-- {{ ref('stg') }}
