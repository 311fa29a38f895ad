select 1 as id
-- {{ ref('stg') }}
-- {{ ref('mid') }}
