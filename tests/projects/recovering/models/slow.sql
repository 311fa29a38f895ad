-- Keeps dbt at work after flaky has failed.
select sum(sin(i) * cos(i)) as total from range(50000000) numbers(i)
