-- Runs over many tenants, and the check of an installation: never a tenant's sales.
set lock_timeout = '5s';

create function public.ml_list_tenants(p_after uuid default null, p_limit int default 1000) returns jsonb
language plpgsql security invoker set search_path = '' set role = tenantcast_system
as $$
begin
  return (
    select coalesce(jsonb_agg(jsonb_build_object(
      'tenant_id', t.tenant_id, 'name', t.name, 'time_zone', t.time_zone, 'cutoff_hour', t.cutoff_hour,
      'country', t.country, 'language', t.language, 'currency', t.currency, 'active', t.active
    ) order by t.tenant_id), '[]')
    from (
      select * from tenantcast_source.tenant_source as s
      where p_after is null or s.tenant_id > p_after order by s.tenant_id limit least(greatest(p_limit, 1), 1000)
    ) as t
  );
end;
$$;
comment on function public.ml_list_tenants(uuid, int) is 'Tenants by id, one page; an empty page is the last.';

create function tenantcast_internal.run_counts(p_run_id uuid) returns jsonb
language sql stable set search_path = ''
as $$
  select jsonb_build_object(
    'done', count(*) filter (where i.state = 'done'), 'failed', count(*) filter (where i.state = 'failed'),
    'skipped', count(*) filter (where i.state = 'skipped'), 'pending', count(*) filter (where i.state = 'pending'),
    'running', count(*) filter (where i.state = 'running')
  )
  from public.ml_run_item as i where i.run_id = p_run_id
$$;
comment on function tenantcast_internal.run_counts(uuid) is 'Items of a run per state; counted, never kept.';

create function tenantcast_internal.close_runs(p_kind text) returns void
language sql set search_path = ''
as $$
  update public.ml_run as r set finished_at = clock_timestamp()
  where r.kind = p_kind and r.finished_at is null and not exists (
    select 1 from public.ml_run_item as i where i.run_id = r.run_id and i.state in ('pending', 'running')
  )
$$;
comment on function tenantcast_internal.close_runs(text) is 'Ends every run of a kind that has no open item left.';

create function tenantcast_internal.rough_size(p_tenant_id uuid) returns bigint
language plpgsql set search_path = ''
as $$
begin
  -- What the last run saw; a tenant that never ran is counted, no further than it takes to know that it is not small.
  return coalesce(
    (select i.source_rows from public.ml_run_item as i
     where i.tenant_id = p_tenant_id and i.source_rows is not null order by i.created_at desc limit 1),
    tenantcast_internal.count_sales(p_tenant_id, 10000)
  );
end;
$$;
comment on function tenantcast_internal.rough_size(uuid) is 'Roughly how many sales rows a tenant has, cheaply.';

create function public.ml_start_run(
  p_kind text, p_params jsonb, p_code_version text, p_slot timestamptz default null, p_tenant_ids jsonb default null
) returns jsonb
language plpgsql security invoker set search_path = '' set role = tenantcast_system set statement_timeout = '120s'
as $$
declare
  v_run_id uuid;
  v_created boolean;
begin
  if p_tenant_ids is not null and jsonb_typeof(p_tenant_ids) not in ('array', 'null') then
    raise exception 'p_tenant_ids must be an array of ids, or null' using errcode = 'TC001';
  end if;
  insert into public.ml_run (kind, slot, params, code_version)
  values (p_kind, p_slot, coalesce(p_params, '{}'), p_code_version)
  on conflict (kind, slot) do nothing
  returning run_id into v_run_id;
  v_created := found;
  if v_created then
    insert into public.ml_run_item (run_id, tenant_id, source_rows)
    select v_run_id, t.tenant_id, tenantcast_internal.rough_size(t.tenant_id)
    from (
      select s.tenant_id from tenantcast_source.tenant_source as s
      where s.active and (p_tenant_ids is null or jsonb_typeof(p_tenant_ids) = 'null')
      union
      select e::uuid from jsonb_array_elements_text(
        case when jsonb_typeof(p_tenant_ids) = 'array' then p_tenant_ids else '[]' end
      ) as e
    ) as t
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
comment on function public.ml_start_run(text, jsonb, text, timestamptz, jsonb) is
  'A run over the given tenants, or all active ones; the second call for one (kind, slot) gives the first one''s run.';

create function public.ml_pending_items(p_run_id uuid, p_limit int) returns jsonb
language plpgsql security invoker set search_path = '' set role = tenantcast_system
as $$
declare
  v_now timestamptz := clock_timestamp();
begin
  return (
    with open_items as (
      select
        i.tenant_id, coalesce(i.source_rows, 0) as source_rows,
        -- Until its own retry time, and until whoever works on the tenant now (for any run) is done or dead.
        greatest(0, extract(epoch from greatest(
          case when i.state = 'pending' then i.not_before end,
          (select max(r.lease_until) from public.ml_run_item as r
           where r.tenant_id = i.tenant_id and r.state = 'running')
        ) - v_now)) as wait
      from public.ml_run_item as i
      where i.run_id = p_run_id and i.state in ('pending', 'running')
    ), page as (
      select * from open_items order by wait > 0, source_rows, tenant_id limit least(greatest(p_limit, 1), 1000)
    )
    select coalesce(jsonb_agg(jsonb_build_object(
      'tenant_id', tenant_id, 'ready', wait <= 0, 'retry_in_seconds', ceil(wait)::int
    ) order by wait > 0, source_rows, tenant_id), '[]')
    from page
  );
end;
$$;
comment on function public.ml_pending_items(uuid, int) is
  'Open items of a run: those that can be claimed now first, then tenants with few sales rows first.';

create function public.ml_finish_run(p_run_id uuid) returns jsonb
language plpgsql security invoker set search_path = '' set role = tenantcast_system
as $$
declare
  v_run public.ml_run;
begin
  perform tenantcast_internal.expire_leases(null, p_run_id);
  perform tenantcast_internal.supersede_items(i.tenant_id, null)
  from public.ml_run_item as i where i.run_id = p_run_id and i.state = 'pending' and i.losses > 0;
  perform tenantcast_internal.close_runs((select r.kind from public.ml_run as r where r.run_id = p_run_id));
  select * into v_run from public.ml_run as r where r.run_id = p_run_id;
  if not found then
    return null;
  end if;
  return jsonb_build_object(
    'finished', v_run.finished_at is not null, 'counts', tenantcast_internal.run_counts(p_run_id)
  );
end;
$$;
comment on function public.ml_finish_run(uuid) is
  'Takes back items of lost workers, and ends the run (and older ones of its kind) when no item is open; null: no run.';

create function tenantcast_internal.run_json(p_run public.ml_run) returns jsonb
language sql stable set search_path = ''
as $$
  select jsonb_build_object(
    'run_id', p_run.run_id, 'kind', p_run.kind, 'slot', tenantcast_internal.iso(p_run.slot),
    'params', p_run.params, 'created_at', tenantcast_internal.iso(p_run.created_at),
    'finished_at', tenantcast_internal.iso(p_run.finished_at), 'code_version', p_run.code_version,
    'counts', tenantcast_internal.run_counts(p_run.run_id)
  )
$$;
comment on function tenantcast_internal.run_json(public.ml_run) is 'A run as JSON, with its items counted per state.';

create function public.ml_list_runs(p_limit int) returns jsonb
language plpgsql security invoker set search_path = '' set role = tenantcast_system
as $$
begin
  return (
    select coalesce(jsonb_agg(tenantcast_internal.run_json(r) order by r.created_at desc, r.run_id), '[]')
    from (
      select * from public.ml_run order by created_at desc, run_id limit least(greatest(p_limit, 1), 1000)
    ) as r
  );
end;
$$;
comment on function public.ml_list_runs(int) is 'The newest runs.';

create function public.ml_show_run(p_run_id uuid default null, p_after uuid default null, p_limit int default 100)
returns jsonb
language plpgsql security invoker set search_path = '' set role = tenantcast_system
as $$
declare
  v_run public.ml_run;
  v_items jsonb;
begin
  select * into v_run from public.ml_run as r
  where p_run_id is null or r.run_id = p_run_id order by r.created_at desc, r.run_id limit 1;
  if not found then
    return null;
  end if;
  select coalesce(jsonb_agg(jsonb_build_object(
    'tenant_id', i.tenant_id, 'name', tenantcast_internal.read_tenant(i.tenant_id) ->> 'name', 'state', i.state,
    'attempt', i.attempt, 'stage', i.stage, 'reason', i.reason, 'error', i.error, 'input_hash', i.input_hash,
    'output_hash', i.output_hash,
    'seconds', round(extract(epoch from coalesce(i.finished_at, clock_timestamp()) - i.started_at), 3),
    'report', i.report
  ) order by i.tenant_id), '[]') into v_items
  from (
    select * from public.ml_run_item as it
    where it.run_id = v_run.run_id and (p_after is null or it.tenant_id > p_after)
    order by it.tenant_id limit least(greatest(p_limit, 1), 1000)
  ) as i;
  return jsonb_build_object('run', tenantcast_internal.run_json(v_run), 'items', v_items);
end;
$$;
comment on function public.ml_show_run(uuid, uuid, int) is
  'A run (null: the newest) and a page of its items by tenant; null when there is none.';

revoke all on all routines in schema tenantcast_internal from public;
grant execute on function
  tenantcast_internal.run_counts(uuid), tenantcast_internal.close_runs(text), tenantcast_internal.rough_size(uuid),
  tenantcast_internal.run_json(public.ml_run)
to tenantcast_system;
call tenantcast_internal.expose_function('public.ml_list_tenants(uuid, int)');
call tenantcast_internal.expose_function('public.ml_start_run(text, jsonb, text, timestamptz, jsonb)');
call tenantcast_internal.expose_function('public.ml_pending_items(uuid, int)');
call tenantcast_internal.expose_function('public.ml_finish_run(uuid)');
call tenantcast_internal.expose_function('public.ml_list_runs(int)');
call tenantcast_internal.expose_function('public.ml_show_run(uuid, uuid, int)');

notify pgrst, 'reload schema';
