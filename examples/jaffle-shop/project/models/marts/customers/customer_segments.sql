select
    customer_id,
    customer_name,
    order_count,
    lifetime_amount,
    case
        when order_count = 0 then 'prospect'
        when order_count < {{ var('regular_from_orders') }} then 'occasional'
        else 'regular'
    end as segment
from {{ ref('customers') }}
