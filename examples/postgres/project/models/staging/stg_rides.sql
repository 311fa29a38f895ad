select
    id as ride_id,
    bike_id,
    from_station as from_station_id,
    to_station as to_station_id,
    started_at,
    ended_at,
    ended_at is null as is_under_way,
    extract(epoch from ended_at - started_at) / 60 as minutes
from {{ ref('raw_rides') }}
