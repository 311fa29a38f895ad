select id, 'first' as edition from {{ ref('customers') }}
