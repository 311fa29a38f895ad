-- Fails the first time that the database sees it.
{% set tried = "table_name = 'flaky_was_tried'" %}
{% if execute and not run_query("select 1 from information_schema.tables where " ~ tried).rows %}
  {% do run_query("create table flaky_was_tried as select 1 as id") %}
  select error('flaky fails the first time') as id from {{ ref("orders") }}
{% else %}
  select id from {{ ref("orders") }}
{% endif %}
