select 1 as id
-- {{ source('ext', 'events') }}
