{#- As a pre-hook: holds a node back for weight × pause_seconds. An empty hook is not run at all. -#}
{% macro pause(weight=1) -%}
  {%- set milliseconds = (var('pause_seconds', 0) | float * weight * 1000) | int -%}
  {%- if milliseconds > 0 -%}
    select sleep_ms({{ milliseconds }})
  {%- endif -%}
{%- endmacro %}
