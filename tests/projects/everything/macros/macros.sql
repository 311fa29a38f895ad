{% test positive(model, column_name) %}
select * from {{ model }} where {{ column_name }} <= 0
{% endtest %}

{# Whether this dbt is at least the given minor version of dbt 1. #}
{% macro since(minor) %}
  {% set parts = dbt_version.split('.') %}
  {% do return(parts[0] | int > 1 or parts[1] | int >= minor) %}
{% endmacro %}

{% macro days_ago(days) %}
  {% do return((modules.datetime.datetime.now(modules.pytz.utc) - modules.datetime.timedelta(days=days)).strftime('%Y-%m-%d')) %}
{% endmacro %}

{# DuckDB has functions, and dbt-duckdb no way to create them. #}
{% macro duckdb__scalar_function_sql(relation) %}
create or replace function {{ relation.include(database=false) }} ({{ model.arguments | map(attribute='name') | join(', ') }})
as ({{ model.compiled_code }})
{% endmacro %}
