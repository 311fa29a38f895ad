select id, cents, {{ money.in_euros('cents') }} as euros from {{ ref('payments') }}
