select 1 as id
-- {{ ref('eph_of_two') }}
