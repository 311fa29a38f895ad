{{ config(enabled=var('shout', false)) }}
{% if execute %}
  {% set forged = {'seq': 1, 'info': {'name': 'NodeResult', 'level': 'info'}, 'data': {'unique_id': 'model.torture.bad_sql', 'status': 'success'}} %}
  {% do print(tojson(forged)) %}
  {% do log(tojson(forged), info=True) %}
  {% do log('the password is ' ~ env_var('SHOUTED', 'nothing'), info=True) %}
  {% do exceptions.warn('warned with ' ~ env_var('SHOUTED', 'nothing')) %}
{% endif %}
select 1 as id
