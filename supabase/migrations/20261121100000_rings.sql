-- What to ring for: which items are due, whose messages are out, and which leases ran out. Messages are cheap and may
-- be lost; how many are out is bounded, so that a run over ten thousand tenants does not bury a request for one.
set lock_timeout = '5s';

alter table public.ml_run add column ring boolean not null default true;
comment on column public.ml_run.ring is
  'Workers are rung for it; false: whoever started it works it off, and they are rung only for what was left lying.';
create index ml_run_unfinished on public.ml_run (created_at) where finished_at is null;

alter table public.ml_run_item
  add column rung_at timestamptz,
  add column rings int not null default 0,
  add column claimant uuid;
comment on column public.ml_run_item.rung_at is 'When a message was last sent that nobody has taken up; null: none is out.';
comment on column public.ml_run_item.rings is 'How many messages were sent; every one above the attempts was lost or late.';
comment on column public.ml_run_item.claimant is 'Who holds the lease: a repeat of the same claim gets the same fence.';
create index ml_run_item_due on public.ml_run_item (run_id, coalesce(source_rows, 0), tenant_id) where state = 'pending';
create index ml_run_item_rung on public.ml_run_item (rung_at) where state = 'pending' and rung_at is not null;

-- As before, and: a message was taken up; the same claimant asking twice (its answer was lost) gets the same lease.
drop function public.ml_claim_item(uuid, uuid, int);
create function public.ml_claim_item(
  p_tenant_id uuid, p_run_id uuid, p_lease_seconds int, p_claimant uuid default null
) returns jsonb
language plpgsql security invoker set search_path = '' set role = tenantcast_worker
as $$
declare
  v_now timestamptz;
  v_item public.ml_run_item;
  v_live timestamptz;
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
  elsif v_item.state = 'running' and v_item.claimant = p_claimant then
    return tenantcast_internal.claimed(v_item);
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
    state = 'running', attempt = i.attempt + 1, fence = nextval('public.ml_fence_seq'), claimant = p_claimant,
    lease_until = v_now + make_interval(secs => p_lease_seconds), started_at = v_now, stage = 'claimed', error = null,
    rung_at = null
  where i.tenant_id = p_tenant_id and i.run_id = p_run_id
  returning * into v_item;
  return tenantcast_internal.claimed(v_item);
exception when unique_violation then
  -- Another claim of this tenant, for a run that began after we looked, won in the meantime.
  return jsonb_build_object('outcome', 'busy', 'retry_in_seconds', 1);
end;
$$;
comment on function public.ml_claim_item(uuid, uuid, int, uuid) is
  'Takes one tenant of one run to work on; expires the tenant''s dead lease of any run first.';

create function tenantcast_internal.claimed(p_item public.ml_run_item) returns jsonb
language sql stable set search_path = ''
as $$
  select jsonb_build_object('outcome', 'claimed', 'fence', p_item.fence, 'attempt', p_item.attempt, 'params', r.params)
  from public.ml_run as r where r.run_id = p_item.run_id
$$;
comment on function tenantcast_internal.claimed(public.ml_run_item) is 'What a claim answers to whoever holds the item.';

create function tenantcast_internal.due_items(p_ring_seconds int, p_limit int)
returns table (run_id uuid, tenant_id uuid, place bigint)
language sql volatile rows 32 set search_path = ''
as $$
  -- Round robin over the runs, and within each run tenants with few sales first: nobody waits behind a giant.
  with clock as (
    select clock_timestamp() as at
  ), due as (
    select c.run_id, c.tenant_id, c.source_rows, row_number() over (
      partition by c.run_id order by c.source_rows, c.tenant_id
    ) as turn
    from clock, public.ml_run as r cross join lateral (
      select i.run_id, i.tenant_id, coalesce(i.source_rows, 0) as source_rows
      from public.ml_run_item as i
      where i.run_id = r.run_id and i.state = 'pending'
        -- What its starter works off himself is left to him for two minutes: then he is gone.
        and i.not_before <= clock.at - case when r.ring then interval '0' else interval '2 minutes' end
        and (i.rung_at is null or i.rung_at < clock.at - make_interval(secs => p_ring_seconds))
        and not exists (
          select 1 from public.ml_run_item as b
          where b.tenant_id = i.tenant_id and b.state = 'running' and b.lease_until > clock.at
        )
      order by coalesce(i.source_rows, 0), i.tenant_id
      limit p_limit
    ) as c
    where r.finished_at is null
  )
  select d.run_id, d.tenant_id, row_number() over (order by d.turn, d.source_rows, d.tenant_id)
  from due as d order by 3 limit p_limit
$$;
comment on function tenantcast_internal.due_items(int, int) is
  'Items that may be claimed now and for which no message of the last p_ring_seconds is out, in the order of their turn.';

create function tenantcast_internal.take_rings(p_ring_seconds int, p_window int) returns jsonb
language plpgsql set search_path = ''
as $$
declare
  v_now timestamptz := clock_timestamp();
  v_free bigint;
  v_rings jsonb;
begin
  if p_ring_seconds is null or p_ring_seconds not between 1 and 86400 then
    raise exception 'p_ring_seconds must be 1 to 86400' using errcode = 'TC001';
  elsif p_window is null or p_window not between 1 and 10000 then
    raise exception 'p_window must be 1 to 10000' using errcode = 'TC001';
  end if;
  -- The more workers there are, the more messages may be out.
  select greatest(p_window, 2 * (select count(*) from public.ml_run_item as i where i.state = 'running'))
    - (select count(*) from public.ml_run_item as i
       where i.state = 'pending' and i.rung_at >= v_now - make_interval(secs => p_ring_seconds))
  into v_free;
  if v_free <= 0 then
    return '[]';
  end if;
  with due as (
    select * from tenantcast_internal.due_items(p_ring_seconds, v_free::int)
  ), taken as (
    -- Two callers at once share them: what one has locked, the other passes over.
    select i.run_id, i.tenant_id, due.place
    from public.ml_run_item as i join due on due.run_id = i.run_id and due.tenant_id = i.tenant_id
    where i.state = 'pending'
      and (i.rung_at is null or i.rung_at < v_now - make_interval(secs => p_ring_seconds))
    for update of i skip locked
  ), rung as (
    update public.ml_run_item as i set rung_at = v_now, rings = i.rings + 1
    from taken where i.run_id = taken.run_id and i.tenant_id = taken.tenant_id
    returning i.run_id, i.tenant_id, taken.place
  )
  select coalesce(jsonb_agg(jsonb_build_object('run_id', run_id, 'tenant_id', tenant_id) order by place), '[]')
  into v_rings from rung;
  return v_rings;
end;
$$;
comment on function tenantcast_internal.take_rings(int, int) is
  'What to ring for now, noted as rung; at most as many messages are out as p_window, or twice what is being worked on.';

create function tenantcast_internal.close_finished_runs(p_run_id uuid) returns int
language plpgsql set search_path = ''
as $$
declare
  v_closed int;
begin
  update public.ml_run as r set finished_at = clock_timestamp()
  where r.run_id in (
    select u.run_id from public.ml_run as u
    where u.finished_at is null and (p_run_id is null or u.run_id = p_run_id) and not exists (
      select 1 from public.ml_run_item as i where i.run_id = u.run_id and i.state in ('pending', 'running')
    )
    for update skip locked
  );
  get diagnostics v_closed = row_count;
  return v_closed;
end;
$$;
comment on function tenantcast_internal.close_finished_runs(uuid) is
  'Ends the run, or every run, that has no open item left.';

create function public.ml_next_items(p_run_id uuid, p_ring_seconds int, p_window int) returns jsonb
language plpgsql security invoker set search_path = '' set role = tenantcast_system
as $$
begin
  return jsonb_build_object(
    'finished', tenantcast_internal.close_finished_runs(p_run_id),
    'ring', tenantcast_internal.take_rings(p_ring_seconds, p_window)
  );
end;
$$;
comment on function public.ml_next_items(uuid, int, int) is
  'After a start and after every item: ends that run if nothing of it is open, and says whom to ring for next.';

create function public.ml_reconcile(p_ring_seconds int, p_window int) returns jsonb
language plpgsql security invoker set search_path = '' set role = tenantcast_system
as $$
declare
  v_tenant_id uuid;
  v_expired int := 0;
begin
  -- A dead item whose row is locked is being written this very moment; a frozen writer must not stop the look.
  for v_tenant_id in
    select i.tenant_id from public.ml_run_item as i
    where i.state = 'running' and i.lease_until < clock_timestamp() for update skip locked
  loop
    v_expired := v_expired + tenantcast_internal.expire_leases(v_tenant_id, null);
  end loop;
  return jsonb_build_object(
    'expired', v_expired,
    'finished', tenantcast_internal.close_finished_runs(null),
    'ring', tenantcast_internal.take_rings(p_ring_seconds, p_window)
  );
end;
$$;
comment on function public.ml_reconcile(int, int) is
  'Takes items of lost workers back, ends finished runs, and says what to ring for: due, and not rung lately.';

revoke all on all routines in schema tenantcast_internal from public;
grant execute on function tenantcast_internal.claimed(public.ml_run_item) to tenantcast_worker;
grant execute on function
  tenantcast_internal.due_items(int, int), tenantcast_internal.take_rings(int, int),
  tenantcast_internal.close_finished_runs(uuid)
to tenantcast_system;
call tenantcast_internal.expose_function('public.ml_claim_item(uuid, uuid, int, uuid)');
call tenantcast_internal.expose_function('public.ml_next_items(uuid, int, int)');
call tenantcast_internal.expose_function('public.ml_reconcile(int, int)');

notify pgrst, 'reload schema';
