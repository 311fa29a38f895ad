select 1 as id
-- {{ ref('src_model') }}
-- {{ ref('leaf') }}
