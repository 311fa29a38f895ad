{#- What a run is to be like, from JSON in the variable CHAOS. Not from dbt's vars: with others than at the build of the
    image dbt would parse the whole project anew, which takes longer than most of these runs. While it parses the
    variable is not asked for: each node that asks would be parsed anew whenever the answer is another one.
    sleep_ms    what each node waits before it does its work
    slow        what single nodes wait instead: {name: milliseconds}
    fail_times  nodes that fail the first so many times: {name: times}
    by_function whether the query of a model counts its execution itself, where no hooks do
    null_times  models that hold a null, at which their test fails, the first so many times: {name: times}; those with
                tests are the ones that `generate.py` names -#}
{% macro chaos_setting(name, default) -%}
  {{ return((fromjson(env_var('CHAOS', '{}')) if execute else {}).get(name, default)) }}
{%- endmacro %}

{#- Counts an attempt. The driver opens a transaction by itself, also for a hook outside of dbt's own: without the
    commit the failure of the node would take the row with it. The lock belongs to the session, which dbt ends with the
    node: whoever does not get it is not alone at work on the node. -#}
{% macro chaos_try() -%}
  insert into {{ target.schema }}.tries (node, invocation, alone) values
    ('{{ this.identifier }}', '{{ invocation_id }}', pg_try_advisory_lock(61, hashtext('{{ this.identifier }}')));
  commit
{%- endmacro %}

{#- Inside the node's transaction: what it takes its time for, and why it fails. -#}
{% macro chaos_work() -%}
  {%- set times = chaos_setting('fail_times', {}).get(this.identifier, 0) -%}
  select pg_sleep({{ chaos_setting('slow', {}).get(this.identifier, chaos_setting('sleep_ms', 20)) }} / 1000.0);
  {% if times > 0 -%}
  do $$ begin
    if ({{ chaos_tries() }}) <= {{ times }} then
      raise exception 'chaos: {{ this.identifier }} fails the first {{ times }} times';
    end if;
  end $$
  {%- endif %}
{%- endmacro %}

{#- Inside the same transaction: the row is there exactly when the node's work is. -#}
{% macro chaos_executed() -%}
  insert into {{ target.schema }}.executions (node, invocation) values ('{{ this.identifier }}', '{{ invocation_id }}')
{%- endmacro %}

{% macro chaos_tries() -%}
  select count(*) from {{ target.schema }}.tries where node = '{{ this.identifier }}'
{%- endmacro %}

{#- The id of a model's only row. -#}
{% macro chaos_id(column) -%}
  {%- if chaos_setting('by_function', false) -%}
  {{ return(target.schema ~ ".chaos_work('" ~ this.identifier ~ "', " ~ column ~ ")") }}
  {%- endif -%}
  {%- set times = chaos_setting('null_times', {}).get(this.identifier, 0) -%}
  {%- if times > 0 -%}
  case when ({{ chaos_tries() }}) > {{ times }} then {{ column }} end
  {%- else -%}
  {{ column }}
  {%- endif -%}
{%- endmacro %}
