-- Clean-ups: what is due, counted; then batch by batch, oldest first, each its own transaction.
set lock_timeout = '5s';

create function tenantcast_internal.clean_up_rule(
  p_what text, out relation regclass, out keys text, out due text, out age text
)
language plpgsql stable set search_path = ''
as $$
begin
  -- $1 is the moment before which a row is old, $2 how many versions of a model stay whatever their age. What is in use
  -- is named here too although the policies keep it: else it would count as due, and stand in the way of every batch.
  case p_what
    when 'notifications' then
      relation := 'public.notifications'; keys := 'tenant_id, notification_id';
      age := 't.created_at'; due := 't.created_at < $1';
    when 'predictions' then
      relation := 'public.ml_predictions'; keys := 'tenant_id, prediction_date, prediction_type';
      age := 't.prediction_date';
      due := 't.prediction_date < ($1 at time zone ''UTC'')::date and not exists (select 1 from public.ml_active_forecast as a '
             'where a.tenant_id = t.tenant_id and a.run_id = t.run_id)';
    when 'model_versions' then
      relation := 'public.ml_models'; keys := 'tenant_id, model_type, model_version'; age := 't.last_trained';
      due := 't.stage = ''archived'' and t.last_trained < $1 and not exists (select 1 from public.ml_active_forecast '
             'as a where a.tenant_id = t.tenant_id and a.model_type = t.model_type and '
             'a.model_version = t.model_version) and $2 <= (select count(*) from public.ml_models as n '
             'where n.tenant_id = t.tenant_id and n.model_type = t.model_type and '
             '(n.last_trained, n.fence) > (t.last_trained, t.fence))';
    when 'snapshots' then
      relation := 'public.ml_input_snapshot'; keys := 'tenant_id, input_hash'; age := 't.created_at';
      due := 't.created_at < $1 and not exists (select 1 from public.ml_forecast_ledger as l '
             'where l.tenant_id = t.tenant_id and l.input_hash = t.input_hash) and not exists (select 1 '
             'from public.ml_active_forecast as a where a.tenant_id = t.tenant_id and a.input_hash = t.input_hash)';
    when 'quarantine' then
      relation := 'public.ml_quarantine'; keys := 'tenant_id, source, line'; age := 't.quarantined_at';
      due := 't.quarantined_at < $1';
    when 'run_items' then
      relation := 'public.ml_run_item'; keys := 'run_id, tenant_id'; age := 't.finished_at';
      due := 't.finished_at < $1 and not exists (select 1 from public.ml_active_forecast as a '
             'where a.tenant_id = t.tenant_id and a.run_id = t.run_id) and exists (select 1 from public.ml_run as r '
             'where r.run_id = t.run_id and r.finished_at < $1)';
    when 'runs' then
      relation := 'public.ml_run'; keys := 'run_id'; age := 't.finished_at';
      due := 't.finished_at < $1 and not exists (select 1 from public.ml_run_item as i where i.run_id = t.run_id)';
    else
      raise exception 'there is nothing called % to clean up', quote_nullable(p_what) using errcode = 'TC001';
  end case;
end;
$$;
comment on function tenantcast_internal.clean_up_rule(text) is
  'What a clean-up is about: table, key, which rows are due, and by which age they go, the oldest first.';

create function tenantcast_internal.clean_up_before(p_keep_days int) returns timestamptz
language plpgsql volatile set search_path = ''
as $$
begin
  if p_keep_days is null or p_keep_days not between 7 and 36500 then
    raise exception 'p_keep_days must be 7 to 36500' using errcode = 'TC001';
  end if;
  return clock_timestamp() - make_interval(days => p_keep_days);
end;
$$;
comment on function tenantcast_internal.clean_up_before(int) is 'What is older than this may go; never under seven days.';

create function public.ml_plan_clean_up(p_what text, p_keep_days int, p_keep_versions int default 5) returns jsonb
language plpgsql security invoker set search_path = '' set role = tenantcast_maintenance set statement_timeout = '120s'
as $$
declare
  v_before timestamptz := tenantcast_internal.clean_up_before(p_keep_days);
  v_rule record := tenantcast_internal.clean_up_rule(p_what);
  v_rows bigint;
  v_due bigint;
begin
  execute format('select count(*), count(*) filter (where %s) from %s as t', v_rule.due, v_rule.relation)
  into v_rows, v_due using v_before, greatest(p_keep_versions, 1);
  return jsonb_build_object(
    'what', p_what, 'rows', v_rows, 'due', v_due, 'before', tenantcast_internal.iso(v_before)
  );
end;
$$;
comment on function public.ml_plan_clean_up(text, int, int) is
  'How many rows a table has, and how many of them a clean-up would delete. Changes nothing.';

create function public.ml_clean_up_batch(
  p_what text, p_keep_days int, p_keep_versions int default 5, p_limit int default 1000
) returns jsonb
language plpgsql security invoker set search_path = '' set role = tenantcast_maintenance set statement_timeout = '60s'
as $$
declare
  v_before timestamptz := tenantcast_internal.clean_up_before(p_keep_days);
  v_rule record := tenantcast_internal.clean_up_rule(p_what);
  v_deleted bigint;
begin
  execute format(
    'delete from %1$s as d where (%2$s) in (select %2$s from %1$s as t where %3$s order by %4$s limit $3)',
    v_rule.relation, v_rule.keys, v_rule.due, v_rule.age
  ) using v_before, greatest(p_keep_versions, 1), least(greatest(p_limit, 1), 1000);
  get diagnostics v_deleted = row_count;
  return jsonb_build_object('deleted', v_deleted);
end;
$$;
comment on function public.ml_clean_up_batch(text, int, int, int) is
  'Deletes the oldest rows that are due, at most 1000; a repeat goes on where it stopped.';

revoke all on all routines in schema tenantcast_internal from public;
grant execute on function
  tenantcast_internal.clean_up_rule(text), tenantcast_internal.clean_up_before(int),
  tenantcast_internal.iso(timestamptz)
to tenantcast_maintenance;
call tenantcast_internal.expose_function('public.ml_plan_clean_up(text, int, int)');
call tenantcast_internal.expose_function('public.ml_clean_up_batch(text, int, int, int)');

notify pgrst, 'reload schema';
