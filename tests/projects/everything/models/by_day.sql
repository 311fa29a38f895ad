-- Where it is broken, one of its batches fails the first time.
{{ config(
    enabled=since(9),
    materialized='incremental',
    incremental_strategy='microbatch',
    unique_key='day' if target.type == 'postgres' else none,
    event_time='day',
    batch_size='day',
    begin=days_ago(2)
) }}
select day, '{{ invocation_id }}' as built_by
{% if var('broken') and env_var('DBT_OPERATOR_ATTEMPT_KIND', 'producer') == 'producer'
      and model.batch and (model.batch.event_time_start | string)[:10] == days_ago(1) %}, no_such_column{% endif %}
from {{ ref('days') }}
