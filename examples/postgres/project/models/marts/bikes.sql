select
    bikes.bike_id,
    bikes.kind,
    bikes.in_service_since,
    count(rides.ride_id) as ride_count,
    coalesce(sum(rides.minutes), 0) as minutes,
    coalesce(bool_or(rides.is_under_way), false) as is_under_way
from {{ ref('stg_bikes') }} as bikes
left join {{ ref('stg_rides') }} as rides using (bike_id)
group by bikes.bike_id, bikes.kind, bikes.in_service_since
