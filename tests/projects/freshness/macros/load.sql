{# Loads a row into the table of each source; hours: how old the row is, by the name of the table. #}
{% macro load(hours) %}
  {% for table, age in hours.items() %}
    {% do run_query("create table if not exists main." ~ table ~ " (id integer, customer integer, loaded_at timestamp)") %}
    {% do run_query("delete from main." ~ table) %}
    {% do run_query("insert into main." ~ table ~ " values (1, 1, cast(now() at time zone 'utc' as timestamp) - interval '" ~ age ~ " hours')") %}
  {% endfor %}
{% endmacro %}
