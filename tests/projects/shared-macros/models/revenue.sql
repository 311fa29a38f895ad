select sum({{ money.in_euros('cents') }}) as euros from {{ ref('staging', 'stg_payments') }}
