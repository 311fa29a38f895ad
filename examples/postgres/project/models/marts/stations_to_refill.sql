-- Where more bikes leave than come back, the emptiest first.
select
    station_id,
    station_name,
    departures - arrivals as bikes_missing
from {{ ref('stations') }}
where departures > arrivals
order by bikes_missing desc
