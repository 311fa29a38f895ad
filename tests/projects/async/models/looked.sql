{{ config(materialized='table') }}
{% set there = adapter.get_relation(database=target.database, schema=target.schema, identifier='report') %}
select {{ 1 if there else 0 }} as there from {{ ref('report') }} limit 1
