with departures as (

    select from_station_id as station_id, count(*) as departures
    from {{ ref('stg_rides') }}
    group by from_station_id

),

arrivals as (

    select to_station_id as station_id, count(*) as arrivals
    from {{ ref('stg_rides') }}
    where not is_under_way
    group by to_station_id

)

select
    stations.station_id,
    stations.station_name,
    stations.docks,
    coalesce(departures.departures, 0) as departures,
    coalesce(arrivals.arrivals, 0) as arrivals
from {{ ref('stg_stations') }} as stations
left join departures using (station_id)
left join arrivals using (station_id)
