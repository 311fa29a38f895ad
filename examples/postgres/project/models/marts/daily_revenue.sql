select
    ride_date,
    count(*) as ride_count,
    sum(price) as revenue
from {{ ref('rides') }}
group by ride_date
