select max(amount) from {{ ref('payments') }}
