{{ config(materialized='table') }}
select cast(payment_id as integer) as payment_id, cast(amount as integer) as amount
{% if var('broken') %}, 1 as not_agreed{% endif %}
from {{ ref('stg_payments') }}
