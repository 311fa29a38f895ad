select
    id as customer_id,
    trim(first_name) || ' ' || trim(last_name) as customer_name,
    lower(city) as city,
    signed_up_on
from {{ ref('raw_customers') }}
