select 1 as id
-- {{ ref('lonely_eph') }}
