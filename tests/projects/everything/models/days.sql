{{ config(materialized='table', event_time='day') if since(9) else config(materialized='table') }}
{% for ago in range(3) %}
select cast('{{ days_ago(ago) }} 12:00:00' as timestamp) as day
{{ "union all" if not loop.last }}
{% endfor %}
