{{ config(materialized='ephemeral') }}
select 1 as id
-- {{ ref('mid') }}
-- {{ ref('src_model') }}
