{{ config(
    materialized='table',
    pre_hook="select 1",
    post_hook="insert into {{ target.schema }}.runs values ('{{ this.name }}')"
) }}
select customer_id, sum(amount) as total, count(*) as payments
from {{ ref('stg_payments') }} group by customer_id
