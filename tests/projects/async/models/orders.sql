{{ config(materialized='view') }}
select n as id, 1 + n % 3 as customer, n * 10 as amount from generate_series(1, 20) as n
