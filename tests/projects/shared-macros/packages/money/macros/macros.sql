{% macro in_euros(column) %}{{ return(adapter.dispatch('in_euros', 'money')(column)) }}{% endmacro %}

{% macro default__in_euros(column) %}{{ exceptions.raise_compiler_error('the project has one of its own') }}{% endmacro %}

{% test not_negative(model, column_name) %}
select {{ column_name }} from {{ model }} where {{ column_name }} < 0
{% endtest %}
