-- Fails in the first attempt; what it says comes from a package.
{% if env_var("DBT_OPERATOR_ATTEMPT_KIND", "") == "producer" %}
select error('the first attempt fails') as said
{% else %}
select {{ greetings.greetings() }} as said
{% endif %}
