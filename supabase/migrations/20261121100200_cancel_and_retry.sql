-- An operator's two verbs: stop a run, and try what failed again.
set lock_timeout = '5s';

create function public.ml_cancel_run(p_run_id uuid) returns jsonb
language plpgsql security invoker set search_path = '' set role = tenantcast_system
as $$
declare
  v_cancelled int;
begin
  if not exists (select 1 from public.ml_run as r where r.run_id = p_run_id) then
    return null;
  end if;
  -- Without its fence, whoever works on an item right now can write nothing more of it.
  with open_items as (
    select i.tenant_id from public.ml_run_item as i
    where i.run_id = p_run_id and i.state in ('pending', 'running') order by i.tenant_id for update
  )
  update public.ml_run_item as i set
    state = 'skipped', reason = 'cancelled', finished_at = clock_timestamp(), fence = null, lease_until = null,
    rung_at = null
  from open_items as o
  where i.run_id = p_run_id and i.tenant_id = o.tenant_id and i.state in ('pending', 'running');
  get diagnostics v_cancelled = row_count;
  perform tenantcast_internal.close_finished_runs(p_run_id);
  return jsonb_build_object('cancelled', v_cancelled, 'counts', tenantcast_internal.run_counts(p_run_id));
end;
$$;
comment on function public.ml_cancel_run(uuid) is
  'Skips every open item of a run, those under work too: what they would write is refused. Null: no such run.';

create function public.ml_retry_items(p_run_id uuid, p_tenant_ids jsonb default null) returns jsonb
language plpgsql security invoker set search_path = '' set role = tenantcast_system
as $$
declare
  v_retried int;
begin
  if p_tenant_ids is not null and jsonb_typeof(p_tenant_ids) not in ('array', 'null') then
    raise exception 'p_tenant_ids must be an array of ids, or null' using errcode = 'TC001';
  elsif not exists (select 1 from public.ml_run as r where r.run_id = p_run_id) then
    return null;
  end if;
  with again as (
    select i.tenant_id from public.ml_run_item as i
    where i.run_id = p_run_id and (
      case when jsonb_typeof(p_tenant_ids) = 'array'
      then i.state in ('failed', 'skipped') and p_tenant_ids ? i.tenant_id::text
      else i.state = 'failed' end
    )
    order by i.tenant_id for update
  )
  update public.ml_run_item as i set
    state = 'pending', attempt = 0, losses = 0, fence = null, lease_until = null, finished_at = null, reason = null,
    not_before = clock_timestamp(), rung_at = null
  from again as a
  where i.run_id = p_run_id and i.tenant_id = a.tenant_id;
  get diagnostics v_retried = row_count;
  if v_retried > 0 then
    update public.ml_run as r set finished_at = null, ring = true where r.run_id = p_run_id;
  end if;
  return jsonb_build_object('retried', v_retried, 'counts', tenantcast_internal.run_counts(p_run_id));
end;
$$;
comment on function public.ml_retry_items(uuid, jsonb) is
  'Failed items are pending again as if never tried; of the tenants named, skipped ones too. Null: no such run.';

call tenantcast_internal.expose_function('public.ml_cancel_run(uuid)');
call tenantcast_internal.expose_function('public.ml_retry_items(uuid, jsonb)');

notify pgrst, 'reload schema';
