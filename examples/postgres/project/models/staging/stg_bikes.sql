select
    id as bike_id,
    kind,
    in_service_since
from {{ ref('raw_bikes') }}
