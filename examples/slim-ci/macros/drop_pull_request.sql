{# Drops the schema that the run has as its own, and those that begin with its name and an underscore. #}
{% macro drop_pull_request() %}
  {% if not target.schema.startswith('pr_') %}
    {% do exceptions.raise_compiler_error(target.schema ~ ' is not the schema of a pull request') %}
  {% endif %}
  {% for row in list_schemas(target.database) %}
    {% if row[0] == target.schema or row[0].startswith(target.schema ~ '_') %}
      {% do log('dropping schema ' ~ row[0], info=true) %}
      {% do adapter.drop_schema(api.Relation.create(database=target.database, schema=row[0])) %}
    {% endif %}
  {% endfor %}
{% endmacro %}
