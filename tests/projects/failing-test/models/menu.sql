select name from {{ ref('products') }}
