-- A completed order for which we have more or less money than it cost.
select order_id, order_amount, paid_amount
from {{ ref('orders') }}
where status = 'completed' and order_amount <> paid_amount
