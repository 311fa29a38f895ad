select count(*) as payments from {{ ref('agreed') }}
