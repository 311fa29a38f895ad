select id from {{ ref('stg') }} where false -- {{ ref('mid') }} {{ ref('src_model') }}
