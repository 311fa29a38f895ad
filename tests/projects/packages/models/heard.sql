select said from {{ ref("greeting") }}
