{{ config(materialized='view') }}
select payment_id, customer_id, amount, cast(paid_on as date) as paid_on from {{ ref('payments') }}
