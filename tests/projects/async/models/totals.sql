{{ config(materialized='table', indexes=[{'columns': ['customer'], 'unique': true}]) }}
select customer, sum(amount) as amount from {{ ref('recent') }} group by 1
