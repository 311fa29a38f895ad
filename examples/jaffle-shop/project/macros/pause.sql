{#- As a pre-hook: holds a node back for weight × pause_seconds. An empty hook is not run at all. An environment variable
    serves as well as the var, and with it dbt need not parse the project anew. -#}
{% macro pause(weight=1) -%}
  {%- set milliseconds = (var('pause_seconds', env_var('JAFFLE_SHOP_PAUSE_SECONDS', '0')) | float * weight * 1000) | int -%}
  {%- if milliseconds > 0 -%}
    select sleep_ms({{ milliseconds }})
  {%- endif -%}
{%- endmacro %}
