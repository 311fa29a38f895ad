select c.id, count(o.id) as orders
from {{ ref('customer_ids') }} as c
left join {{ ref('stg_orders') }} as o on o.customer = c.id
group by c.id
