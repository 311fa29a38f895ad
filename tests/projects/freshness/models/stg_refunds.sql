{{ config(enabled=var('refunds')) }}
select id from {{ source('raw', 'refunds') }}
