-- The schedule's memory: which slot of which job was taken, so that any number of beats may send it; and runs whose
-- tenants begin spread over a window, or in their own night.
set lock_timeout = '5s';

-- Not in public: it holds no tenant's data, and nobody but the functions below has business with it.
create table tenantcast_internal.schedule_tick (
  job text not null check (job ~ '^[a-z][a-z0-9_-]{0,59}$'),
  slot timestamptz not null,
  attempts int not null default 1 check (attempts between 1 and 4),
  fence bigint not null,
  lease_until timestamptz,
  finished_at timestamptz,
  primary key (job, slot),
  check ((lease_until is null) = (finished_at is not null))
);
comment on table tenantcast_internal.schedule_tick is
  'One row per job and slot that somebody has taken: under lease until it is finished, then never done again.';
alter table tenantcast_internal.schedule_tick enable row level security;
alter table tenantcast_internal.schedule_tick force row level security;
revoke all on tenantcast_internal.schedule_tick from public, anon, authenticated, service_role;
grant select, insert, update, delete on tenantcast_internal.schedule_tick to tenantcast_system;
create policy "The system role keeps the schedule" on tenantcast_internal.schedule_tick
  for all to tenantcast_system using (true) with check (true);
grant usage on sequence public.ml_fence_seq to tenantcast_system;

create function public.ml_read_schedule() returns jsonb
language plpgsql security invoker set search_path = '' set role = tenantcast_system
as $$
begin
  return jsonb_build_object(
    'now', tenantcast_internal.iso(clock_timestamp()),
    'last', (
      select coalesce(jsonb_object_agg(t.job, jsonb_build_object(
        'slot', tenantcast_internal.iso(t.slot),
        'open', t.finished_at is null and t.lease_until < clock_timestamp() and t.attempts < 4
      )), '{}')
      from (
        select distinct on (s.job) s.* from tenantcast_internal.schedule_tick as s order by s.job, s.slot desc
      ) as t
    )
  );
end;
$$;
comment on function public.ml_read_schedule() is
  'The database''s clock, and the newest slot of every job; open: whoever took it died, and it may be taken again.';

create function public.ml_claim_tick(p_job text, p_slot timestamptz, p_lease_seconds int) returns jsonb
language plpgsql security invoker set search_path = '' set role = tenantcast_system
as $$
declare
  v_now timestamptz := clock_timestamp();
  v_tick tenantcast_internal.schedule_tick;
begin
  if p_slot is null or p_slot > v_now then
    raise exception 'p_slot must not be in the future' using errcode = 'TC001';
  elsif p_lease_seconds is null or p_lease_seconds not between 1 and 86400 then
    raise exception 'p_lease_seconds must be 1 to 86400' using errcode = 'TC001';
  end if;
  insert into tenantcast_internal.schedule_tick as t (job, slot, fence, lease_until)
  values (p_job, p_slot, nextval('public.ml_fence_seq'), v_now + make_interval(secs => p_lease_seconds))
  on conflict (job, slot) do update set
    attempts = t.attempts + 1, fence = excluded.fence, lease_until = excluded.lease_until
    where t.finished_at is null and t.lease_until < v_now and t.attempts < 4
  returning * into v_tick;
  if found then
    -- Slots of long ago answer no question any more.
    delete from tenantcast_internal.schedule_tick as old
    where old.job = p_job and old.slot < p_slot - interval '90 days';
    return jsonb_build_object('outcome', 'claimed', 'fence', v_tick.fence);
  end if;
  select * into v_tick from tenantcast_internal.schedule_tick as t where t.job = p_job and t.slot = p_slot;
  return jsonb_build_object('outcome', case when v_tick.finished_at is null then 'busy' else 'finished' end);
end;
$$;
comment on function public.ml_claim_tick(text, timestamptz, int) is
  'Takes a job''s slot: one caller gets it; again only when whoever took it died, and four times in all.';

create function public.ml_finish_tick(p_job text, p_slot timestamptz, p_fence bigint) returns jsonb
language plpgsql security invoker set search_path = '' set role = tenantcast_system
as $$
begin
  update tenantcast_internal.schedule_tick as t set
    finished_at = coalesce(t.finished_at, clock_timestamp()), lease_until = null
  where t.job = p_job and t.slot = p_slot and t.fence = p_fence;
  return jsonb_build_object('outcome', case when found then 'finished' else 'lost' end);
end;
$$;
comment on function public.ml_finish_tick(text, timestamptz, bigint) is
  'The slot''s work is done; lost: another one took it meanwhile.';

create function tenantcast_internal.begin_at(
  p_tenant_id uuid, p_time_zone text, p_local_hour int, p_spread_seconds int
) returns timestamptz
language plpgsql set search_path = ''
as $$
declare
  v_now timestamptz := clock_timestamp();
  v_start timestamptz := v_now;
  v_local timestamp;
begin
  if p_local_hour is not null then
    begin
      v_local := date_trunc('day', v_now at time zone p_time_zone) + make_interval(hours => p_local_hour);
      v_start := v_local at time zone p_time_zone;
      if v_start < v_now then
        v_start := (v_local + interval '1 day') at time zone p_time_zone;
      end if;
    exception when invalid_parameter_value then
      v_start := v_now;  -- a time zone that nobody knows: the tenant begins with the others
    end;
  end if;
  -- The same tenant always at the same place of the window.
  return coalesce(v_start, v_now) + make_interval(secs => (
    abs(hashtextextended(p_tenant_id::text, 0)::numeric) % (p_spread_seconds + 1)
  )::double precision);
end;
$$;
comment on function tenantcast_internal.begin_at(uuid, text, int, int) is
  'When a tenant of a scheduled run may begin: at an hour of its own day, plus a share of the window.';

-- As before, and: when each tenant may begin, and whether workers are rung for the run.
drop function public.ml_start_run(text, jsonb, text, timestamptz, jsonb);
create function public.ml_start_run(
  p_kind text, p_params jsonb, p_code_version text, p_slot timestamptz default null, p_tenant_ids jsonb default null,
  p_ring boolean default true, p_spread_seconds int default 0, p_local_hour int default null
) returns jsonb
language plpgsql security invoker set search_path = '' set role = tenantcast_system set statement_timeout = '120s'
as $$
declare
  v_run_id uuid;
  v_created boolean;
begin
  if p_tenant_ids is not null and jsonb_typeof(p_tenant_ids) not in ('array', 'null') then
    raise exception 'p_tenant_ids must be an array of ids, or null' using errcode = 'TC001';
  elsif coalesce(p_spread_seconds, 0) not between 0 and 86400 or coalesce(p_local_hour, 0) not between 0 and 23 then
    raise exception 'p_spread_seconds must be 0 to 86400, p_local_hour 0 to 23' using errcode = 'TC001';
  end if;
  insert into public.ml_run (kind, slot, params, code_version, ring)
  values (p_kind, p_slot, coalesce(p_params, '{}'), p_code_version, coalesce(p_ring, true))
  on conflict (kind, slot) do nothing
  returning run_id into v_run_id;
  v_created := found;
  if v_created then
    insert into public.ml_run_item (run_id, tenant_id, source_rows, not_before)
    select
      v_run_id, t.tenant_id, tenantcast_internal.rough_size(t.tenant_id),
      tenantcast_internal.begin_at(t.tenant_id, s.time_zone, p_local_hour, coalesce(p_spread_seconds, 0))
    from (
      select a.tenant_id from tenantcast_source.tenant_source as a
      where a.active and (p_tenant_ids is null or jsonb_typeof(p_tenant_ids) = 'null')
      union
      select e::uuid from jsonb_array_elements_text(
        case when jsonb_typeof(p_tenant_ids) = 'array' then p_tenant_ids else '[]' end
      ) as e
    ) as t
    left join tenantcast_source.tenant_source as s on s.tenant_id = t.tenant_id
    where t.tenant_id is not null;
    perform tenantcast_internal.supersede_items(null, v_run_id);
    perform tenantcast_internal.close_runs(p_kind);
  else
    select r.run_id into v_run_id from public.ml_run as r where r.kind = p_kind and r.slot = p_slot;
  end if;
  return jsonb_build_object(
    'run_id', v_run_id, 'created', v_created,
    'items', (select count(*) from public.ml_run_item as i where i.run_id = v_run_id)
  );
end;
$$;
comment on function public.ml_start_run(text, jsonb, text, timestamptz, jsonb, boolean, int, int) is
  'A run over the given tenants, or all active ones; the second call for one (kind, slot) gives the first one''s run.';

revoke all on all routines in schema tenantcast_internal from public;
grant execute on function tenantcast_internal.begin_at(uuid, text, int, int) to tenantcast_system;
call tenantcast_internal.expose_function('public.ml_read_schedule()');
call tenantcast_internal.expose_function('public.ml_claim_tick(text, timestamptz, int)');
call tenantcast_internal.expose_function('public.ml_finish_tick(text, timestamptz, bigint)');
call tenantcast_internal.expose_function(
  'public.ml_start_run(text, jsonb, text, timestamptz, jsonb, boolean, int, int)'
);

notify pgrst, 'reload schema';
