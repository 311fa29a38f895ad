-- Fails the first time that the database sees it.
{% if execute %}
  {% if run_query("select 1 from information_schema.tables where table_name = 'flaky_was_tried'").rows %}
    select 1 as id
  {% else %}
    {% do run_query("create table flaky_was_tried as select 1 as id") %}
    select error('flaky fails the first time') as id
  {% endif %}
{% endif %}
