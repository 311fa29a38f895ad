{% snapshot customers_history %}
{{ config(unique_key='id', strategy='timestamp', updated_at='loaded_at', target_schema='main') }}
select * from {{ source('raw', 'customers') }}
{% endsnapshot %}
