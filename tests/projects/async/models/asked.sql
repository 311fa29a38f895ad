{{ config(materialized='table') }}
{% set found = run_query('select max(amount) as amount from ' ~ ref('totals')) %}
select {{ found.columns[0].values()[0] if execute else 0 }} as highest
