-- How the worker reads a tenant's sales: as one daily series, page by page, as a sum to compare.
set lock_timeout = '5s';

create function tenantcast_internal.usable_zone(p_zone text) returns text
language plpgsql stable set search_path = ''
as $$
begin
  perform clock_timestamp() at time zone p_zone;
  return coalesce(p_zone, 'UTC');
exception when data_exception then
  return 'UTC';
end;
$$;
comment on function tenantcast_internal.usable_zone(text) is
  'The time zone if this server knows it, else UTC: a typing error in a tenant''s row must not stop its forecast.';

-- These two run once per sale: a body that is parsed now needs no search_path of its own, and so it can be inlined.
create function tenantcast_internal.is_money(p_amount numeric) returns boolean
language sql immutable
return abs(p_amount) <= 1e15;
comment on function tenantcast_internal.is_money(numeric) is
  'True for an amount that can be summed; not for null (null), NaN, infinity (both are larger) or beyond 10^15.';

create function tenantcast_internal.business_day(p_at timestamptz, p_zone text, p_cutoff interval) returns date
language sql immutable
return ((p_at at time zone p_zone) - p_cutoff)::date;
comment on function tenantcast_internal.business_day(timestamptz, text, interval) is
  'The local day that a sale belongs to: one that ends at 04:00 takes the sales after midnight with it.';

create function tenantcast_internal.read_sales_span(
  p_zone text, p_cutoff interval, p_as_of date,
  out first_sale timestamptz, out last_sale timestamptz, out first_day date, out last_day date
)
language plpgsql stable set search_path = ''
as $$
declare
  -- A day wider than the day's local bounds: no offset is that large, and the exact day is compared below.
  v_until constant timestamptz := (p_as_of + 2)::timestamp at time zone 'UTC' + interval '1 day';
begin
  select s.sold_at into first_sale from tenantcast_source.sales_source as s
  where s.sold_at >= timestamptz '1900-01-01 00:00:00+00' and s.sold_at < v_until
    and tenantcast_internal.is_money(s.amount)
    and tenantcast_internal.business_day(s.sold_at, p_zone, p_cutoff) <= p_as_of
  order by s.sold_at limit 1;
  select s.sold_at into last_sale from tenantcast_source.sales_source as s
  where s.sold_at >= timestamptz '1900-01-01 00:00:00+00' and s.sold_at < v_until
    and tenantcast_internal.is_money(s.amount)
    and tenantcast_internal.business_day(s.sold_at, p_zone, p_cutoff) <= p_as_of
  order by s.sold_at desc limit 1;
  -- When clocks go back across the closing hour, a later sale can belong to an earlier day.
  select min(tenantcast_internal.business_day(s.sold_at, p_zone, p_cutoff)) into first_day
  from tenantcast_source.sales_source as s
  where s.sold_at >= first_sale and s.sold_at < first_sale + interval '1 day'
    and tenantcast_internal.is_money(s.amount);
  select max(tenantcast_internal.business_day(s.sold_at, p_zone, p_cutoff)) into last_day
  from tenantcast_source.sales_source as s
  where s.sold_at > last_sale - interval '1 day' and s.sold_at <= last_sale
    and tenantcast_internal.is_money(s.amount)
    and tenantcast_internal.business_day(s.sold_at, p_zone, p_cutoff) <= p_as_of;
end;
$$;
comment on function tenantcast_internal.read_sales_span(text, interval, date) is
  'First and last usable sale of the current tenant up to a business day, and their business days; nulls without any.';

create function tenantcast_internal.read_daily_sales(
  p_zone text, p_cutoff interval, p_start date, p_end date
) returns jsonb
language sql stable set search_path = ''
-- Ten million sales are ten million groups; the memory is the server's, and the sort of them would be slower.
set work_mem = '64MB' set jit = 'off'
as $$
  with sale as (
    -- Equal instant, amount and product are duplicates: counted, and summed like any other.
    select
      tenantcast_internal.business_day(s.sold_at, p_zone, p_cutoff) as day, s.amount, count(*) as n,
      tenantcast_internal.is_money(s.amount) as usable
    from tenantcast_source.sales_source as s
    where s.sold_at >= p_start::timestamp at time zone 'UTC' - interval '1 day'
      and s.sold_at < (p_end + 2)::timestamp at time zone 'UTC' + interval '1 day'
    group by s.sold_at, s.amount, s.product_id
  ),
  daily as (
    select
      day,
      sum(amount * n) filter (where usable) as total,
      sum(n) filter (where usable) as n_rows,
      sum(n - 1) filter (where usable) as n_duplicates,
      sum(n) filter (where usable and amount < 0) as n_refunds,
      sum(amount * n) filter (where usable and amount < 0) as refunds_total,
      sum(n) filter (where amount is null) as n_null,
      sum(n) filter (where not usable and abs(amount) >= 'Infinity'::numeric) as n_not_finite,
      sum(n) filter (where not usable and abs(amount) < 'Infinity'::numeric) as n_absurd
    from sale where day between p_start and p_end
    group by day
  )
  select jsonb_build_object(
    'sales', jsonb_agg(coalesce(d.total, 0)::double precision order by c.i),
    'rows', jsonb_agg(coalesce(d.n_rows, 0) order by c.i),
    'quality', jsonb_build_object(
      'rows', coalesce(sum(d.n_rows), 0),
      'duplicates', coalesce(sum(d.n_duplicates), 0),
      'negative_days', count(*) filter (where d.total < 0),
      'refunds', coalesce(sum(d.n_refunds), 0),
      'refunds_total', coalesce(sum(d.refunds_total), 0)::double precision
    ),
    'left_out', jsonb_build_object(
      'no_amount', coalesce(sum(d.n_null), 0),
      'not_finite', coalesce(sum(d.n_not_finite), 0),
      'absurd_amount', coalesce(sum(d.n_absurd), 0)
    )
  )
  from generate_series(0, p_end - p_start) as c(i)
  left join daily as d on d.day = p_start + c.i
$$;
comment on function tenantcast_internal.read_daily_sales(text, interval, date, date) is
  'One number per business day from p_start to p_end, exact sums turned into float8 once, and what was seen on the way.';

create function tenantcast_internal.read_left_out(p_now timestamptz, p_amounts jsonb) returns jsonb
language sql stable set search_path = ''
as $$
  with by_time as (
    select
      count(*) filter (where s.sold_at is null) as n_null,
      count(*) filter (where s.sold_at < timestamptz '1900-01-01 00:00:00+00'
                          or s.sold_at >= timestamptz '2201-01-01 00:00:00+00') as n_absurd,
      count(*) filter (where s.sold_at > p_now and s.sold_at < timestamptz '2201-01-01 00:00:00+00') as n_future
    from tenantcast_source.sales_source as s
    where s.sold_at is null or s.sold_at < timestamptz '1900-01-01 00:00:00+00' or s.sold_at > p_now
  ),
  reasons as (
    select key as reason, value::bigint as n, null::bigint as first_line, 'database' as source
    from jsonb_each_text(p_amounts || (select jsonb_build_object('no_date', n_null, 'absurd_date', n_absurd) from by_time))
    where value::bigint > 0
    union all
    (select q.reason, count(*), min(q.line), q.source
     from public.ml_quarantine as q
     where q.tenant_id = (select tenantcast_source.current_tenant())
     group by q.reason, q.source
     order by count(*) desc, q.source, q.reason limit 100)
  )
  select jsonb_build_object(
    'future_rows', (select n_future from by_time),
    'quarantined', coalesce(
      (select jsonb_agg(jsonb_build_object('reason', reason, 'rows', n, 'first_line', first_line, 'source', source)
                        order by n desc, source, reason) from reasons), '[]')
  )
$$;
comment on function tenantcast_internal.read_left_out(timestamptz, jsonb) is
  'Rows that are in no sum, with reasons: those of the product''s tables, and those that an import kept aside.';

create function public.ml_read_input(
  p_tenant_id uuid, p_as_of date default null, p_max_days int default 1460, p_stale_after_days int default 28
) returns jsonb
language plpgsql stable set search_path = '' set role = 'tenantcast_worker'
as $$
declare
  v_now constant timestamptz := clock_timestamp();
  v_tenant jsonb;
  v_zone text;
  v_cutoff interval;
  v_last_finished date;
  v_as_of date;
  v_span record;
  v_stale boolean := false;
  v_window_start date;
  v_start date;
  v_daily jsonb;
  v_notes jsonb := '[]';
begin
  perform tenantcast_internal.enter_tenant(p_tenant_id);
  v_tenant := tenantcast_internal.read_tenant(p_tenant_id);
  v_zone := tenantcast_internal.usable_zone(v_tenant ->> 'time_zone');
  if v_zone <> v_tenant ->> 'time_zone' then
    v_notes := v_notes || '["invalid_time_zone"]';
  end if;
  v_cutoff := make_interval(hours => (v_tenant ->> 'cutoff_hour')::int);
  if v_cutoff is null or v_cutoff not between interval '0' and interval '23 hours' then
    v_notes := v_notes || case when v_cutoff is null then '[]' else '["invalid_cutoff_hour"]' end::jsonb;
    v_cutoff := interval '0';
  end if;

  v_last_finished := tenantcast_internal.business_day(v_now, v_zone, v_cutoff) - 1;
  v_as_of := greatest(least(coalesce(p_as_of, v_last_finished), v_last_finished), date '1900-01-01');
  select * into v_span from tenantcast_internal.read_sales_span(v_zone, v_cutoff, v_as_of);
  if v_as_of - v_span.last_day > p_stale_after_days then
    v_stale := true;
    v_as_of := v_span.last_day;
  end if;
  v_window_start := v_as_of - greatest(least(p_max_days, 3650), 1) + 1;
  if v_span.first_day is not null then
    v_start := greatest(v_span.first_day, v_window_start);
  end if;
  v_daily := tenantcast_internal.read_daily_sales(v_zone, v_cutoff, coalesce(v_start, v_window_start), v_as_of);

  return jsonb_build_object(
    'tenant', v_tenant,
    'as_of', case when v_tenant is not null then v_as_of end,
    'last_finished_day', v_last_finished,
    'stale', v_stale,
    'start', v_start,
    'sales', case when v_start is null then '[]' else v_daily -> 'sales' end,
    'rows', case when v_start is null then '[]' else v_daily -> 'rows' end,
    'calendar', coalesce(
      (select jsonb_agg(jsonb_build_object('day', c.day, 'kind', c.kind, 'name', c.name) order by c.day, c.kind)
       from public.tenant_calendar as c
       where c.tenant_id = p_tenant_id and c.day between coalesce(v_start, v_as_of) and v_as_of + 366), '[]'),
    'settings', (select o.settings from public.tenant_ml_settings as o where o.tenant_id = p_tenant_id),
    'current', tenantcast_internal.current_forecast(),
    'quality', (v_daily -> 'quality') || tenantcast_internal.read_left_out(v_now, v_daily -> 'left_out')
      || jsonb_build_object(
        'first_sale', tenantcast_internal.iso(v_span.first_sale),
        'last_sale', tenantcast_internal.iso(v_span.last_sale),
        'days_before_window', coalesce(v_start - v_span.first_day, 0),
        'notes', v_notes
      )
  );
end;
$$;
comment on function public.ml_read_input(uuid, date, int, int) is
  'Everything that a forecast of one tenant is made from, of one moment: see docs/database.md.';
call tenantcast_internal.expose_function('public.ml_read_input(uuid, date, int, int)');

create function public.ml_read_sales_page(
  p_tenant_id uuid, p_after_sold_at timestamptz default null, p_after_sale_id text default null, p_limit int default 1000
) returns jsonb
language plpgsql stable set search_path = '' set role = 'tenantcast_worker'
as $$
begin
  perform tenantcast_internal.enter_tenant(p_tenant_id);
  return coalesce(
    (select jsonb_agg(jsonb_build_object(
       'sale_id', p.sale_id, 'sold_at', tenantcast_internal.iso(p.sold_at),
       'amount', case when tenantcast_internal.is_money(p.amount) then p.amount::double precision end,
       'quantity', case when tenantcast_internal.is_money(p.quantity) then p.quantity::double precision end,
       'product_id', p.product_id
     ) order by p.sold_at, p.sale_id)
     from (
       select s.* from tenantcast_source.sales_source as s
       where s.sold_at >= coalesce(p_after_sold_at, timestamptz '1900-01-01 00:00:00+00')
         and s.sold_at < timestamptz '2201-01-01 00:00:00+00'
         and (p_after_sold_at is null or (s.sold_at, s.sale_id) > (p_after_sold_at, coalesce(p_after_sale_id, '')))
       order by s.sold_at, s.sale_id
       limit greatest(least(p_limit, 10000), 1)
     ) as p), '[]');
end;
$$;
comment on function public.ml_read_sales_page(uuid, timestamptz, text, int) is
  'Sales behind a key, oldest first; those of a day between 1900 and 2200. An amount that is no money is null.';
call tenantcast_internal.expose_function('public.ml_read_sales_page(uuid, timestamptz, text, int)');

create function public.ml_read_inventory(p_tenant_id uuid) returns jsonb
language plpgsql stable set search_path = '' set role = 'tenantcast_worker'
as $$
begin
  perform tenantcast_internal.enter_tenant(p_tenant_id);
  return coalesce(
    (select jsonb_agg(jsonb_build_object(
       'product_id', p.product_id, 'name', p.name,
       'stock', case when tenantcast_internal.is_money(p.stock) then p.stock::double precision end
     ) order by p.product_id)
     from tenantcast_source.product_source as p), '[]');
end;
$$;
comment on function public.ml_read_inventory(uuid) is 'The tenant''s products and what is in stock of each.';
call tenantcast_internal.expose_function('public.ml_read_inventory(uuid)');

create function public.ml_check_sales(p_tenant_id uuid) returns jsonb
language plpgsql stable set search_path = '' set role = 'tenantcast_worker'
as $$
begin
  perform tenantcast_internal.enter_tenant(p_tenant_id);
  return (
    select jsonb_build_object(
      'rows', count(*),
      'readable', count(*) filter (where s.sold_at >= timestamptz '1900-01-01 00:00:00+00'
                                     and s.sold_at < timestamptz '2201-01-01 00:00:00+00'),
      'total', trim_scale(coalesce(sum(s.amount) filter (where tenantcast_internal.is_money(s.amount)), 0))::text,
      'first_sale', tenantcast_internal.iso(min(s.sold_at) filter (where isfinite(s.sold_at))),
      'last_sale', tenantcast_internal.iso(max(s.sold_at) filter (where isfinite(s.sold_at)))
    )
    from tenantcast_source.sales_source as s
  );
end;
$$;
comment on function public.ml_check_sales(uuid) is
  'Rows and exact sum as the worker sees them, to compare with the owner''s view or a file. Amounts that are no money '
  'count as rows and are in no sum; readable rows are those that ml_read_sales_page gives.';
call tenantcast_internal.expose_function('public.ml_check_sales(uuid)');

create function public.ml_quarantine_rows(
  p_tenant_id uuid, p_source text, p_rows jsonb, p_replace boolean default false
) returns jsonb
language plpgsql set search_path = '' set role = 'tenantcast_worker'
as $$
declare
  v_written int;
begin
  perform tenantcast_internal.enter_tenant(p_tenant_id);
  if p_replace then
    delete from public.ml_quarantine where tenant_id = p_tenant_id and source = p_source;
  end if;
  insert into public.ml_quarantine as q (tenant_id, source, line, reason, raw)
  select distinct on (r.line) p_tenant_id, p_source, r.line, r.reason, left(r.raw, 1000)
  from jsonb_to_recordset(p_rows) as r(line bigint, reason text, raw text)
  order by r.line
  on conflict (tenant_id, source, line) do update
    set reason = excluded.reason, raw = excluded.raw, quarantined_at = clock_timestamp();
  get diagnostics v_written = row_count;
  return jsonb_build_object('quarantined', v_written);
end;
$$;
comment on function public.ml_quarantine_rows(uuid, text, jsonb, boolean) is
  'Keeps rows of an import aside. p_replace: what an earlier import of the same source kept aside goes first.';
call tenantcast_internal.expose_function('public.ml_quarantine_rows(uuid, text, jsonb, boolean)');

revoke all on function
  tenantcast_internal.usable_zone(text), tenantcast_internal.is_money(numeric),
  tenantcast_internal.business_day(timestamptz, text, interval),
  tenantcast_internal.read_sales_span(text, interval, date),
  tenantcast_internal.read_daily_sales(text, interval, date, date),
  tenantcast_internal.read_left_out(timestamptz, jsonb)
from public;
grant execute on function
  tenantcast_internal.usable_zone(text), tenantcast_internal.is_money(numeric),
  tenantcast_internal.business_day(timestamptz, text, interval),
  tenantcast_internal.read_sales_span(text, interval, date),
  tenantcast_internal.read_daily_sales(text, interval, date, date),
  tenantcast_internal.read_left_out(timestamptz, jsonb)
to tenantcast_worker;

notify pgrst, 'reload schema';
