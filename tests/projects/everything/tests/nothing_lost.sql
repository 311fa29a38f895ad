select a.payments from (select sum(payments) as payments from {{ ref('customers', v=2) }}) a
where a.payments <> (select count(*) from {{ ref('payments') }})
