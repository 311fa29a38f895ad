select sum(order_count) as order_count from {{ ref('order_totals') }}
