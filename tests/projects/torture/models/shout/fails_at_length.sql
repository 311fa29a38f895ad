{{ config(enabled=var('shout', false)) }}
{% if execute %}{{ exceptions.raise_compiler_error('the end is far ' ~ ('"\\ä€😀' * 5000) ~ env_var('SHOUTED', 'nothing')) }}{% endif %}
select 1 as id
