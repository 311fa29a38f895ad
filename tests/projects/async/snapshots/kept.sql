{% snapshot kept %}
{{ config(target_schema=target.schema, unique_key='customer', strategy='check', check_cols='all') }}
select * from {{ ref('totals') }}
{% endsnapshot %}
