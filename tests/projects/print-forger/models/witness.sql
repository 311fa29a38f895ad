select * from {{ ref('victim') }}
