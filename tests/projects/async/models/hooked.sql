{{ config(materialized='table', post_hook="comment on table {{ this }} is 'hooked'") }}
select 1 as id from {{ ref('top') }}
