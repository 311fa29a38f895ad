-- How much of each category's margin its best sellers earn: a category that lives on one product is fragile.
select
    categories.category,
    categories.margin,
    count(top.product_id) as top_product_count,
    round(coalesce(sum(top.margin), 0) / nullif(categories.margin, 0), 3) as top_product_share
from {{ ref('category_sales') }} as categories
left join {{ ref('top_products') }} as top using (category)
group by categories.category, categories.margin
