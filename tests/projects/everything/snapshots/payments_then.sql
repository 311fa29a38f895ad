{% snapshot payments_then %}
{{ config(target_schema=target.schema, unique_key='payment_id', strategy='check', check_cols=['amount']) }}
select * from {{ ref('payments') }}
{% endsnapshot %}
