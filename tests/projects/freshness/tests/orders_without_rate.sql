select o.id from {{ ref('stg_orders') }} as o join {{ ref('stg_rates') }} as r on false
