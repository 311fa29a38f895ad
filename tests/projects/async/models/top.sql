select * from {{ ref('report') }} order by amount desc limit 1
