-- Which candidate an item's worker is computing, noted by the heartbeat that comes anyway; and in which ones workers
-- were lost, for the next attempt to judge.
set lock_timeout = '5s';

alter table public.ml_run_item
  add column computing jsonb check (jsonb_typeof(computing) = 'object' and octet_length(computing::text) <= 400),
  add column lost_in jsonb not null default '[]'
    check (jsonb_typeof(lost_in) = 'array' and octet_length(lost_in::text) <= 2000);
comment on column public.ml_run_item.computing is
  'What was computed at the last heartbeat, and for how long already: {fence, candidate, seconds}; null between candidates.';
comment on column public.ml_run_item.lost_in is
  'What was computed when a worker was lost: [{candidate, seconds}], one of each loss that a heartbeat had noted it for.';

-- As before, and: what is being computed. Workers of the release before do not say it.
drop function public.ml_heartbeat_item(uuid, uuid, bigint, int, text);
create function public.ml_heartbeat_item(
  p_tenant_id uuid, p_run_id uuid, p_fence bigint, p_lease_seconds int, p_stage text,
  p_candidate text default null, p_candidate_seconds int default null
) returns jsonb
language plpgsql security invoker set search_path = '' set role = tenantcast_worker
as $$
begin
  perform tenantcast_internal.enter_tenant(p_tenant_id);
  if p_lease_seconds is null or p_lease_seconds not between 1 and 86400 then
    raise exception 'p_lease_seconds must be 1 to 86400' using errcode = 'TC001';
  end if;
  update public.ml_run_item as i set
    lease_until = clock_timestamp() + make_interval(secs => p_lease_seconds), stage = coalesce(p_stage, i.stage),
    computing = case when p_candidate is not null then jsonb_build_object(
      'fence', p_fence, 'candidate', left(p_candidate, 60), 'seconds', greatest(coalesce(p_candidate_seconds, 0), 0)
    ) end
  where i.tenant_id = p_tenant_id and i.run_id = p_run_id and i.fence = p_fence and i.state = 'running';
  return jsonb_build_object('alive', found);
end;
$$;
comment on function public.ml_heartbeat_item(uuid, uuid, bigint, int, text, text, int) is
  'Renews the lease; alive is false when another worker owns the item now: stop, and write nothing.';

-- As before, and: what the lost worker was computing is kept. The fence tells a note of this attempt from an older one.
create or replace function tenantcast_internal.expire_leases(p_tenant_id uuid, p_run_id uuid) returns int
language plpgsql set search_path = ''
as $$
declare
  v_now timestamptz := clock_timestamp();
  v_expired int;
begin
  -- Either one tenant of every run (a claim) or every tenant of one run (finishing it); rows in a fixed order.
  with dead as (
    select
      i.run_id, i.tenant_id,
      i.losses + 1 >= l.max_losses or i.attempt + 1 >= l.max_attempts as parked,
      case when (i.computing ->> 'fence')::bigint = i.fence
        then i.lost_in || jsonb_build_array(i.computing - 'fence') else i.lost_in end as lost_in
    from public.ml_run_item as i, tenantcast_internal.item_limits() as l
    where i.state = 'running' and i.lease_until < v_now
      and (p_tenant_id is null or i.tenant_id = p_tenant_id) and (p_run_id is null or i.run_id = p_run_id)
    order by i.tenant_id, i.run_id
    for update of i
  )
  update public.ml_run_item as i set
    state = case when dead.parked then 'failed' else 'pending' end,
    attempt = i.attempt + 1,
    losses = i.losses + 1,
    fence = null,
    lease_until = null,
    not_before = v_now,
    finished_at = case when dead.parked then v_now end,
    error = tenantcast_internal.worker_lost(i.losses + 1) || jsonb_build_object('lost_in', dead.lost_in),
    reason = case when dead.parked then 'worker_lost' end,
    computing = null,
    lost_in = dead.lost_in
  from dead
  where i.run_id = dead.run_id and i.tenant_id = dead.tenant_id and i.state = 'running';
  get diagnostics v_expired = row_count;
  return v_expired;
end;
$$;

create or replace function tenantcast_internal.claimed(p_item public.ml_run_item) returns jsonb
language sql stable set search_path = ''
as $$
  select jsonb_build_object(
    'outcome', 'claimed', 'fence', p_item.fence, 'attempt', p_item.attempt, 'params', r.params,
    'lost_in', p_item.lost_in
  )
  from public.ml_run as r where r.run_id = p_item.run_id
$$;

-- As before, and: as if never tried means that no candidate is blamed any more.
create or replace function public.ml_retry_items(p_run_id uuid, p_tenant_ids jsonb default null) returns jsonb
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
    not_before = clock_timestamp(), rung_at = null, computing = null, lost_in = '[]'
  from again as a
  where i.run_id = p_run_id and i.tenant_id = a.tenant_id;
  get diagnostics v_retried = row_count;
  if v_retried > 0 then
    update public.ml_run as r set finished_at = null, ring = true where r.run_id = p_run_id;
  end if;
  return jsonb_build_object('retried', v_retried, 'counts', tenantcast_internal.run_counts(p_run_id));
end;
$$;

call tenantcast_internal.expose_function('public.ml_heartbeat_item(uuid, uuid, bigint, int, text, text, int)');

notify pgrst, 'reload schema';
