select id from {{ source('raw', 'rates') }}
