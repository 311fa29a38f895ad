{# In the place of the package's own. #}
{% macro default__in_euros(column) %}round({{ column }} / 100.0, 2){% endmacro %}

{# What dbt calls for the schema of every node, those of packages included. #}
{% macro generate_schema_name(custom_schema_name, node) %}{{ custom_schema_name or target.schema }}{% endmacro %}
