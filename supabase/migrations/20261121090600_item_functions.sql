-- Claim, heartbeat, fail, finish: who works on a tenant. Only the database's clock decides.
--
-- pending -> running -> done | failed | skipped. A claim hands out a fence number; whatever comes back with an older
-- one writes nothing. A lease that runs out is a lost worker: it counts double, and two of them park the item.
set lock_timeout = '5s';

create function tenantcast_internal.item_limits(out max_attempts int, out max_losses int)
language sql immutable set search_path = ''
as $$ select 4, 2 $$;
comment on function tenantcast_internal.item_limits() is 'One try and three more; two lost workers.';

create function tenantcast_internal.worker_lost(p_losses int) returns jsonb
language sql immutable set search_path = ''
as $$
  select jsonb_build_object(
    'kind', 'lost', 'code', 'worker_lost',
    'message', format('The worker was lost %s time(s) while it worked on this tenant.', p_losses),
    'next_step', 'Look at the worker''s memory and its log, then start the tenant again: tenantcast run TENANT.'
  )
$$;
comment on function tenantcast_internal.worker_lost(int) is 'What an item says when it is parked after lost workers.';

create function tenantcast_internal.expire_leases(p_tenant_id uuid, p_run_id uuid) returns int
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
      i.losses + 1 >= l.max_losses or i.attempt + 1 >= l.max_attempts as parked
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
    error = tenantcast_internal.worker_lost(i.losses + 1),
    reason = case when dead.parked then 'worker_lost' end
  from dead
  where i.run_id = dead.run_id and i.tenant_id = dead.tenant_id and i.state = 'running';
  get diagnostics v_expired = row_count;
  return v_expired;
end;
$$;
comment on function tenantcast_internal.expire_leases(uuid, uuid) is
  'Takes items back from lost workers: pending again, or failed (worker_lost) after two losses or four attempts.';

create function tenantcast_internal.supersede_items(p_tenant_id uuid, p_run_id uuid) returns int
language plpgsql set search_path = ''
as $$
declare
  v_skipped int;
begin
  -- A pending item is stale when a newer run of the same kind holds its tenant: by tenant, or for all of a new run.
  with stale as (
    select i.run_id, i.tenant_id, newer.run_id as newer_run_id
    from public.ml_run_item as i
    join public.ml_run as r on r.run_id = i.run_id
    cross join lateral (
      select r2.run_id from public.ml_run_item as i2
      join public.ml_run as r2 on r2.run_id = i2.run_id
      where i2.tenant_id = i.tenant_id and r2.kind = r.kind
        and (r2.created_at, r2.run_id) > (r.created_at, r.run_id)
        and (p_run_id is null or r2.run_id = p_run_id)
      order by r2.created_at desc, r2.run_id desc
      limit 1
    ) as newer
    where i.state = 'pending' and (p_tenant_id is null or i.tenant_id = p_tenant_id)
    order by i.tenant_id, i.run_id
    for update of i
  )
  update public.ml_run_item as i set
    state = 'skipped', finished_at = clock_timestamp(), reason = format('superseded by run %s', stale.newer_run_id)
  from stale
  where i.run_id = stale.run_id and i.tenant_id = stale.tenant_id and i.state = 'pending';
  get diagnostics v_skipped = row_count;
  return v_skipped;
end;
$$;
comment on function tenantcast_internal.supersede_items(uuid, uuid) is
  'Skips pending items that a newer run of the same kind will do anyway.';

create function public.ml_claim_item(p_tenant_id uuid, p_run_id uuid, p_lease_seconds int) returns jsonb
language plpgsql security invoker set search_path = '' set role = tenantcast_worker
as $$
declare
  v_now timestamptz;
  v_item public.ml_run_item;
  v_live timestamptz;
  v_params jsonb;
begin
  perform tenantcast_internal.enter_tenant(p_tenant_id);
  if p_lease_seconds is null or p_lease_seconds not between 1 and 86400 then
    raise exception 'p_lease_seconds must be 1 to 86400' using errcode = 'TC001';
  end if;
  -- Claims of one tenant queue up here, whichever run they are for; the partial unique index stands behind them.
  perform 1 from public.ml_run_item as i
  where i.tenant_id = p_tenant_id and i.state in ('pending', 'running') order by i.run_id for update;
  perform tenantcast_internal.expire_leases(p_tenant_id, null);
  perform tenantcast_internal.supersede_items(p_tenant_id, null);

  select * into v_item from public.ml_run_item as i where i.tenant_id = p_tenant_id and i.run_id = p_run_id;
  if not found then
    return jsonb_build_object('outcome', 'unknown');
  elsif v_item.state in ('done', 'failed', 'skipped') then
    return jsonb_build_object('outcome', 'finished', 'state', v_item.state);
  end if;
  v_now := clock_timestamp();
  select i.lease_until into v_live from public.ml_run_item as i
  where i.tenant_id = p_tenant_id and i.state = 'running';
  if found then
    return jsonb_build_object('outcome', 'busy', 'retry_in_seconds', tenantcast_internal.seconds_until(v_live));
  elsif v_item.not_before > v_now then
    return jsonb_build_object(
      'outcome', 'later', 'retry_in_seconds', tenantcast_internal.seconds_until(v_item.not_before)
    );
  end if;

  update public.ml_run_item as i set
    state = 'running', attempt = i.attempt + 1, fence = nextval('public.ml_fence_seq'),
    lease_until = v_now + make_interval(secs => p_lease_seconds), started_at = v_now, stage = 'claimed', error = null
  where i.tenant_id = p_tenant_id and i.run_id = p_run_id
  returning * into v_item;
  select r.params into v_params from public.ml_run as r where r.run_id = p_run_id;
  return jsonb_build_object(
    'outcome', 'claimed', 'fence', v_item.fence, 'attempt', v_item.attempt, 'params', v_params
  );
exception when unique_violation then
  -- Another claim of this tenant, for a run that began after we looked, won in the meantime.
  return jsonb_build_object('outcome', 'busy', 'retry_in_seconds', 1);
end;
$$;
comment on function public.ml_claim_item(uuid, uuid, int) is
  'Takes one tenant of one run to work on; expires the tenant''s dead lease of any run first.';

create function tenantcast_internal.seconds_until(p_at timestamptz) returns int
language sql volatile set search_path = ''
as $$ select greatest(1, ceil(extract(epoch from p_at - clock_timestamp())))::int $$;
comment on function tenantcast_internal.seconds_until(timestamptz) is 'Whole seconds from now, at least one.';

create function public.ml_heartbeat_item(
  p_tenant_id uuid, p_run_id uuid, p_fence bigint, p_lease_seconds int, p_stage text
) returns jsonb
language plpgsql security invoker set search_path = '' set role = tenantcast_worker
as $$
begin
  perform tenantcast_internal.enter_tenant(p_tenant_id);
  if p_lease_seconds is null or p_lease_seconds not between 1 and 86400 then
    raise exception 'p_lease_seconds must be 1 to 86400' using errcode = 'TC001';
  end if;
  update public.ml_run_item as i set
    lease_until = clock_timestamp() + make_interval(secs => p_lease_seconds), stage = coalesce(p_stage, i.stage)
  where i.tenant_id = p_tenant_id and i.run_id = p_run_id and i.fence = p_fence and i.state = 'running';
  return jsonb_build_object('alive', found);
end;
$$;
comment on function public.ml_heartbeat_item(uuid, uuid, bigint, int, text) is
  'Renews the lease; alive is false when another worker owns the item now: stop, and write nothing.';

create function public.ml_fail_item(
  p_tenant_id uuid, p_run_id uuid, p_fence bigint, p_error jsonb, p_retry_in_seconds int default null
) returns jsonb
language plpgsql security invoker set search_path = '' set role = tenantcast_worker
as $$
declare
  v_item public.ml_run_item;
  v_again boolean;
  v_now timestamptz;
begin
  perform tenantcast_internal.enter_tenant(p_tenant_id);
  if jsonb_typeof(p_error) is distinct from 'object' then
    raise exception 'p_error must be an object' using errcode = 'TC001';
  end if;
  select * into v_item from public.ml_run_item as i
  where i.tenant_id = p_tenant_id and i.run_id = p_run_id and i.fence = p_fence for update;
  if v_item.state in ('failed', 'pending') then
    return jsonb_build_object('outcome', v_item.state);  -- a repeat after a lost answer
  elsif v_item.state is distinct from 'running' then
    return jsonb_build_object('outcome', 'lost');
  end if;
  v_now := clock_timestamp();
  v_again := p_retry_in_seconds is not null and v_item.attempt < (tenantcast_internal.item_limits()).max_attempts;
  update public.ml_run_item as i set
    state = case when v_again then 'pending' else 'failed' end,
    -- An error that is too long to keep must not keep the item from failing.
    error = case when octet_length(p_error::text) <= 65536 then p_error else jsonb_build_object(
      'kind', left(p_error ->> 'kind', 100), 'code', left(p_error ->> 'code', 100),
      'message', left(p_error ->> 'message', 4000), 'next_step', left(p_error ->> 'next_step', 1000)
    ) end,
    reason = left(p_error ->> 'message', 1000),
    lease_until = null,
    not_before = v_now + make_interval(secs => least(greatest(coalesce(p_retry_in_seconds, 0), 0), 86400)),
    finished_at = case when not v_again then v_now end
  where i.tenant_id = p_tenant_id and i.run_id = p_run_id;
  return jsonb_build_object('outcome', case when v_again then 'pending' else 'failed' end);
end;
$$;
comment on function public.ml_fail_item(uuid, uuid, bigint, jsonb, int) is
  'Notes an error: pending again when a retry time is given and attempts are left, else failed.';

create function public.ml_finish_item(
  p_tenant_id uuid, p_run_id uuid, p_fence bigint, p_state text, p_reason text, p_report jsonb,
  p_input_hash text default null
) returns jsonb
language plpgsql security invoker set search_path = '' set role = tenantcast_worker
as $$
declare
  v_state text;
begin
  perform tenantcast_internal.enter_tenant(p_tenant_id);
  if p_state is null or p_state not in ('done', 'skipped') then
    raise exception 'p_state must be done or skipped' using errcode = 'TC001';
  end if;
  select i.state into v_state from public.ml_run_item as i
  where i.tenant_id = p_tenant_id and i.run_id = p_run_id and i.fence = p_fence for update;
  if v_state in ('done', 'skipped') then
    return jsonb_build_object('outcome', 'finished');  -- a repeat after a lost answer
  elsif v_state is distinct from 'running' then
    return jsonb_build_object('outcome', 'lost');
  end if;
  update public.ml_run_item as i set
    state = p_state, reason = left(p_reason, 1000), report = p_report, input_hash = p_input_hash,
    lease_until = null, finished_at = clock_timestamp()
  where i.tenant_id = p_tenant_id and i.run_id = p_run_id;
  return jsonb_build_object('outcome', 'finished');
end;
$$;
comment on function public.ml_finish_item(uuid, uuid, bigint, text, text, jsonb, text) is
  'Ends an item without publishing: nothing changed, or no sales yet.';

revoke all on all routines in schema tenantcast_internal from public;
grant execute on function
  tenantcast_internal.item_limits(), tenantcast_internal.worker_lost(int),
  tenantcast_internal.expire_leases(uuid, uuid), tenantcast_internal.supersede_items(uuid, uuid),
  tenantcast_internal.seconds_until(timestamptz)
to tenantcast_worker, tenantcast_system;
call tenantcast_internal.expose_function('public.ml_claim_item(uuid, uuid, int)');
call tenantcast_internal.expose_function('public.ml_heartbeat_item(uuid, uuid, bigint, int, text)');
call tenantcast_internal.expose_function('public.ml_fail_item(uuid, uuid, bigint, jsonb, int)');
call tenantcast_internal.expose_function('public.ml_finish_item(uuid, uuid, bigint, text, text, jsonb, text)');

notify pgrst, 'reload schema';
