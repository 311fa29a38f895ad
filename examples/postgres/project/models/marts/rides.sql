{{ config(materialized='incremental', unique_key='ride_id', on_schema_change='fail') }}

select
    rides.ride_id,
    rides.started_at,
    cast(rides.started_at as date) as ride_date,
    bikes.kind,
    rides.from_station_id,
    rides.to_station_id,
    rides.minutes,
    cast(
        greatest(rides.minutes - {{ var('free_minutes') }}, 0)
        * case bikes.kind when 'cargo' then 0.30 when 'electric' then 0.25 else 0.15 end
        as numeric(10, 2)
    ) as price
from {{ ref('stg_rides') }} as rides
inner join {{ ref('stg_bikes') }} as bikes using (bike_id)
where not rides.is_under_way
{% if is_incremental() -%}
-- A long ride ends after a shorter one that began later: look back a day.
and rides.started_at > (select max(started_at) - interval '1 day' from {{ this }})
{% endif -%}
