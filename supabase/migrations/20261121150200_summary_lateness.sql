-- How late a daily summary may be is one number, the caller's; the default is for workers of the release before.
set lock_timeout = '5s';

drop function public.ml_due_notification_ticks(text, int, int, int, int);
create function public.ml_due_notification_ticks(
  p_job text, p_limit int, p_lease_seconds int, p_period_seconds int, p_hour int, p_hours_late int default 6
) returns jsonb
language plpgsql security invoker set search_path = '' set role = tenantcast_system
as $$
declare
  v_now constant timestamptz := clock_timestamp();
  v_due jsonb;
begin
  with slot as (
    select
      s.tenant_id,
      case p_job
        when 'summary' then tenantcast_internal.summary_day(v_now, s.time_zone, p_hour, p_hours_late)::text
        else floor(extract(epoch from v_now) / greatest(p_period_seconds, 1))::text
      end as slot
    from tenantcast_source.tenant_source as s
    where s.active and s.tenant_id is not null
  ), page as (
    select s.tenant_id, s.slot
    from slot as s
    left join public.notification_ticks as t on t.tenant_id = s.tenant_id and t.job = p_job
    where s.slot is not null and t.done_slot is distinct from s.slot and coalesce(t.lease_until <= v_now, true)
    -- Those that have waited longest first: a tick that runs out of time leaves others behind than the one before.
    order by t.done_slot nulls first, s.tenant_id limit least(greatest(p_limit, 1), 1000)
  ), taken as (
    insert into public.notification_ticks as t (tenant_id, job, lease_until)
    select p.tenant_id, p_job, v_now + make_interval(secs => p_lease_seconds) from page as p
    on conflict (tenant_id, job) do update set lease_until = excluded.lease_until
    -- Another one may have taken or done it since the page was read.
    where coalesce(t.lease_until <= v_now, true)
      and t.done_slot is distinct from (select p.slot from page as p where p.tenant_id = t.tenant_id)
    returning t.tenant_id
  )
  select coalesce(jsonb_agg(jsonb_build_object('tenant_id', p.tenant_id, 'slot', p.slot) order by p.tenant_id), '[]')
  into v_due
  from taken as k join page as p on p.tenant_id = k.tenant_id;
  return v_due;
end;
$$;
comment on function public.ml_due_notification_ticks(text, int, int, int, int, int) is
  'Takes tenants whose rules (one slot per period) or daily summary (one slot per local date) are due, under a lease.';

call tenantcast_internal.expose_function('public.ml_due_notification_ticks(text, int, int, int, int, int)');

notify pgrst, 'reload schema';
