{% materialization special, default %}
  {% set target = this.incorporate(type='table') %}
  {% call statement('main') %}
    drop table if exists {{ target }} cascade; create table {{ target }} as ({{ sql }})
  {% endcall %}
  {{ adapter.commit() }}
  {{ return({'relations': [target]}) }}
{% endmaterialization %}

{% test joined(model) %}
  select * from {{ model }} where name is null
{% endtest %}
