{{ config(enabled=since(11)) }}
select {{ function('doubled') }}(amount) as doubled from {{ ref('stg_payments') }}
