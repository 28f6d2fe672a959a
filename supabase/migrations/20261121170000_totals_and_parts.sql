-- What a forecast consists of, day by day, and the bands of its 7- and 28-day totals.
set lock_timeout = '5s';

create function tenantcast_internal.parts_make_yhat(p_values jsonb) returns boolean
language sql immutable set search_path = ''
as $$
  select case
    when p_values -> 'parts' is null then true  -- a worker of the version before
    when jsonb_typeof(p_values -> 'parts') <> 'object' or not tenantcast_internal.is_number(p_values -> 'yhat') then false
    else (
      select coalesce(bool_and(tenantcast_internal.is_number(e.value)), false)
        and sum(case when tenantcast_internal.is_number(e.value) then e.value::numeric end)
            is not distinct from (p_values -> 'yhat')::numeric
      from jsonb_each(p_values -> 'parts') as e
    )
  end
$$;
comment on function tenantcast_internal.parts_make_yhat(jsonb) is
  'True when the parts, if there are any, are numbers whose exact decimal sum is yhat.';

create function tenantcast_internal.are_totals(p_totals jsonb) returns boolean
language sql immutable set search_path = ''
as $$
  select case when jsonb_typeof(p_totals) = 'object' then (
    select coalesce(bool_and(
      e.key ~ '^total_[1-9][0-9]{0,2}$' and case
        when tenantcast_internal.is_number(e.value -> 'yhat')
             and tenantcast_internal.is_number(e.value -> 'yhat_lower')
             and tenantcast_internal.is_number(e.value -> 'yhat_upper')
        then (e.value -> 'yhat')::numeric
             between (e.value -> 'yhat_lower')::numeric and (e.value -> 'yhat_upper')::numeric
        else false end
    ), true)
    from jsonb_each(p_totals) as e
  ) else false end
$$;
comment on function tenantcast_internal.are_totals(jsonb) is
  'True for {"total_7": {yhat, yhat_lower, yhat_upper, …}, …} with the total inside its band; {} has none.';

revoke all on all routines in schema tenantcast_internal from public;
grant execute on function tenantcast_internal.parts_make_yhat(jsonb), tenantcast_internal.are_totals(jsonb)
to tenantcast_worker, tenantcast_system;

-- Rows that are there have no parts; they are not read again to find that out.
alter table public.ml_predictions add constraint ml_predictions_parts_make_the_forecast check (
  prediction_type <> 'sales_forecast' or tenantcast_internal.parts_make_yhat(predicted_values)
) not valid;
comment on table public.ml_predictions is
  'The forecast (yhat, yhat_lower, yhat_upper, parts) and the flagged days (y, score, is_anomaly), in the tenant''s '
  'currency per business day; days that have passed keep the last forecast made for them.';

alter table public.ml_forecast_ledger add column totals jsonb
  check (totals is null or (tenantcast_internal.are_totals(totals) and octet_length(totals::text) <= 65536));
comment on column public.ml_forecast_ledger.totals is
  'Totals of the first 7 and 28 days with their bands, as many as the horizon holds; null from older versions.';
grant select (run_id, totals) on public.ml_forecast_ledger to authenticated;

create or replace function tenantcast_internal.publish_record(p_run_id uuid, p_fence bigint, p_result jsonb)
returns void
language plpgsql set search_path = ''
as $$
declare
  v_tenant_id uuid := tenantcast_source.current_tenant();
begin
  insert into public.ml_input_snapshot (tenant_id, input_hash, as_of, payload, code_version)
  values (
    v_tenant_id, p_result ->> 'input_hash', (p_result ->> 'as_of')::date, p_result ->> 'snapshot',
    p_result ->> 'code_version'
  )
  on conflict (tenant_id, input_hash) do nothing;
  insert into public.ml_forecast_ledger (
    tenant_id, issued_on, run_id, as_of, fence, code_version, model_type, model_version, input_hash, output_hash,
    forecast, totals, confidence_score
  ) values (
    v_tenant_id, (clock_timestamp() at time zone 'UTC')::date, p_run_id, (p_result ->> 'as_of')::date, p_fence,
    p_result ->> 'code_version', p_result -> 'model' ->> 'model_type', p_result -> 'model' ->> 'model_version',
    p_result ->> 'input_hash', p_result ->> 'output_hash',
    -- The ledger is kept for ever, to measure errors by: what a day consists of says nothing about those.
    (select jsonb_agg(d.value - 'parts' order by d.ordinality)
     from jsonb_array_elements(p_result -> 'predictions') with ordinality as d),
    p_result -> 'totals', (p_result ->> 'confidence_score')::double precision
  );
  insert into public.ml_active_forecast as a (
    tenant_id, run_id, fence, as_of, input_hash, output_hash, model_type, model_version
  ) values (
    v_tenant_id, p_run_id, p_fence, (p_result ->> 'as_of')::date, p_result ->> 'input_hash',
    p_result ->> 'output_hash', p_result -> 'model' ->> 'model_type', p_result -> 'model' ->> 'model_version'
  )
  on conflict (tenant_id) do update set
    run_id = excluded.run_id, fence = excluded.fence, as_of = excluded.as_of, input_hash = excluded.input_hash,
    output_hash = excluded.output_hash, model_type = excluded.model_type, model_version = excluded.model_version,
    published_at = clock_timestamp();
end;
$$;

create or replace view public.v_sales_forecast with (security_invoker = true, security_barrier = true) as
select
  p.tenant_id, p.prediction_date as day,
  (p.predicted_values -> 'yhat')::double precision as yhat,
  (p.predicted_values -> 'yhat_lower')::double precision as yhat_lower,
  (p.predicted_values -> 'yhat_upper')::double precision as yhat_upper,
  p.confidence_score, p.prediction_date > a.as_of as is_ahead, a.as_of, p.model_version,
  p.predicted_values -> 'parts' as parts
from public.ml_predictions as p
left join public.ml_active_forecast as a using (tenant_id)
where p.prediction_type = 'sales_forecast';

create view public.v_sales_totals with (security_invoker = true, security_barrier = true) as
select
  a.tenant_id, a.as_of, substr(t.key, length('total_') + 1)::int as days,
  (t.value -> 'yhat')::double precision as yhat,
  (t.value -> 'yhat_lower')::double precision as yhat_lower,
  (t.value -> 'yhat_upper')::double precision as yhat_upper
from public.ml_active_forecast as a
cross join lateral (
  select l.totals from public.ml_forecast_ledger as l
  where l.tenant_id = a.tenant_id and l.run_id = a.run_id order by l.issued_on desc limit 1
) as issued
cross join lateral jsonb_each(issued.totals) as t;
comment on view public.v_sales_totals is 'The totals of the current forecast''s first 7 and 28 days with their bands.';
revoke all on public.v_sales_totals from public, anon, authenticated, service_role;
grant select on public.v_sales_totals to authenticated;

notify pgrst, 'reload schema';
