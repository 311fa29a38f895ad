select 1
from (select sum(revenue) as total from {{ ref('daily_revenue') }}) as days
cross join (select sum(price) as total from {{ ref('rides') }}) as rides
where days.total <> rides.total
