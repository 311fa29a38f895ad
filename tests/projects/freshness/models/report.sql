select orders from {{ ref('orders_by_customer') }}
