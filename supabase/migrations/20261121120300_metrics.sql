-- What alarms look at: the ledger in a few numbers, and whether the installation still holds what it promises.
set lock_timeout = '5s';

create function tenantcast_internal.queue_metrics() returns jsonb
language sql stable set search_path = ''
as $$
  select jsonb_build_object(
    'pending', count(*) filter (where i.state = 'pending'),
    'running', count(*) filter (where i.state = 'running'),
    -- Since it could have been claimed, and since it exists: a run that is spread over a night has old items, not late
    -- ones.
    'oldest_due_seconds', coalesce(max(extract(epoch from c.at - i.not_before)) filter (
      where i.state = 'pending' and i.not_before <= c.at
    ), 0),
    'oldest_pending_seconds', coalesce(max(extract(epoch from c.at - i.created_at)) filter (
      where i.state = 'pending'
    ), 0),
    'expired_leases', count(*) filter (where i.state = 'running' and i.lease_until < c.at),
    'longest_expired_seconds', coalesce(max(extract(epoch from c.at - i.lease_until)) filter (
      where i.state = 'running' and i.lease_until < c.at
    ), 0)
  )
  from (select clock_timestamp() as at) as c left join public.ml_run_item as i on i.state in ('pending', 'running')
$$;
comment on function tenantcast_internal.queue_metrics() is 'Open items: how many, how old, and whose lease ran out.';

create function tenantcast_internal.trouble_metrics() returns jsonb
language sql stable set search_path = ''
as $$
  -- Of items that are open or ended within a day: a sum over all time would fall with every clean-up.
  select jsonb_build_object(
    'lost_leases_last_day', coalesce(sum(i.losses), 0),
    're_rings_last_day', coalesce(sum(greatest(i.rings - greatest(i.attempt, 1), 0)), 0),
    'failed_items_last_day', count(*) filter (where i.state = 'failed')
  )
  from public.ml_run_item as i
  where i.state in ('pending', 'running') or i.finished_at > clock_timestamp() - interval '1 day'
$$;
comment on function tenantcast_internal.trouble_metrics() is 'Lost workers, repeated messages and failures of a day.';

create function tenantcast_internal.freshness_metrics(p_top int) returns jsonb
language sql stable set search_path = ''
as $$
  with tenant as (
    select
      t.tenant_id, last.state, last.error ->> 'code' as code,
      extract(epoch from clock_timestamp() - done.finished_at)::double precision as age
    from tenantcast_source.tenant_source as t
    left join lateral (
      select i.state, i.error from public.ml_run_item as i
      where i.tenant_id = t.tenant_id and i.state in ('done', 'failed') order by i.created_at desc limit 1
    ) as last on true
    left join lateral (
      select i.finished_at from public.ml_run_item as i
      where i.tenant_id = t.tenant_id and i.state = 'done' order by i.created_at desc limit 1
    ) as done on true
    where t.active
  )
  select jsonb_build_object(
    'tenants', count(*),
    'tenants_without_forecast', count(*) filter (where age is null),
    'failed_tenants', count(*) filter (where state = 'failed'),
    'parked_tenants', count(*) filter (where state = 'failed' and code = 'worker_lost'),
    'freshness_seconds', jsonb_build_object(
      'p50', percentile_cont(0.5) within group (order by age), 'p90', percentile_cont(0.9) within group (order by age),
      'p99', percentile_cont(0.99) within group (order by age), 'max', max(age)
    ),
    'stalest', (
      select coalesce(jsonb_agg(jsonb_build_object('tenant_id', s.tenant_id, 'seconds', s.age)
                                order by s.age desc, s.tenant_id), '[]')
      from (select * from tenant where age is not null order by age desc, tenant_id limit p_top) as s
    )
  )
  from tenant
$$;
comment on function tenantcast_internal.freshness_metrics(int) is
  'How long ago the forecasts of active tenants were last made or found unchanged; the oldest by name.';

create function public.ml_metrics(p_top int default 10) returns jsonb
language plpgsql security invoker set search_path = '' set role = tenantcast_system set statement_timeout = '30s'
as $$
begin
  return tenantcast_internal.queue_metrics() || tenantcast_internal.trouble_metrics()
    || tenantcast_internal.freshness_metrics(least(greatest(p_top, 0), 100))
    || jsonb_build_object(
      'at', tenantcast_internal.iso(clock_timestamp()),
      'open_runs', (select count(*) from public.ml_run as r where r.finished_at is null)
    );
end;
$$;
comment on function public.ml_metrics(int) is
  'The ledger in numbers: queue, trouble of the last day, and how fresh the forecasts are; never a tenant''s sales.';

create function public.ml_health() returns jsonb
language plpgsql security invoker set search_path = '' set role = tenantcast_system set statement_timeout = '30s'
as $$
begin
  return jsonb_build_object(
    'version', current_setting('server_version'),
    'migrations', tenantcast_internal.applied_migrations(),
    'roles', tenantcast_internal.roles_json(),
    'lint', (
      select coalesce(jsonb_agg(jsonb_build_object('problem', l.problem, 'object', l.object)), '[]')
      from tenantcast_internal.lint() as l
    )
  );
end;
$$;
comment on function public.ml_health() is
  'Server version, migrations, roles and catalogue lint: what ml_check_installation gives without reading any sales.';

revoke all on all routines in schema tenantcast_internal from public;
grant execute on function
  tenantcast_internal.queue_metrics(), tenantcast_internal.trouble_metrics(),
  tenantcast_internal.freshness_metrics(int)
to tenantcast_system;
call tenantcast_internal.expose_function('public.ml_metrics(int)');
call tenantcast_internal.expose_function('public.ml_health()');

notify pgrst, 'reload schema';
