-- Messages: written once per key, read with the facts that rules need, sent under a lease.
set lock_timeout = '5s';

create function tenantcast_internal.wanted_channels(p_kind text) returns setof text
language sql stable set search_path = ''
as $$
  -- A row for the rule itself wins over the one for all rules ('*').
  select distinct on (c.channel) n.channel
  from public.business_notification_config as c
  join public.notification_channels as n on n.tenant_id = c.tenant_id and n.channel = c.channel
  where c.tenant_id = (select tenantcast_source.current_tenant()) and c.rule in (p_kind, '*')
    and not exists (
      select 1 from public.business_notification_config as o
      where o.tenant_id = c.tenant_id and o.channel = c.channel and o.rule = p_kind and not o.enabled
    )
    and c.enabled
$$;
comment on function tenantcast_internal.wanted_channels(text) is
  'Channels outside the app on which the current tenant wants messages of a kind, and has an address.';

create function tenantcast_internal.write_notifications(p_notifications jsonb) returns int
language plpgsql set search_path = ''
as $$
declare
  v_tenant_id uuid := tenantcast_source.current_tenant();
  v_written int;
begin
  with fresh as (
    insert into public.notifications (tenant_id, dedupe_key, kind, title, body, payload)
    select
      v_tenant_id, n ->> 'dedupe_key', n ->> 'kind', n ->> 'title', coalesce(n ->> 'body', ''),
      coalesce(n -> 'payload', '{}')
    from jsonb_array_elements(coalesce(p_notifications, '[]')) as n
    where not exists (
      select 1 from public.business_notification_config as c
      where c.tenant_id = v_tenant_id and c.rule = n ->> 'kind' and c.channel = 'in_app' and not c.enabled
    )
    on conflict (tenant_id, dedupe_key) do nothing
    returning notification_id, kind
  ), outbound as (
    insert into public.notification_deliveries (tenant_id, notification_id, channel)
    select v_tenant_id, f.notification_id, w
    from fresh as f cross join lateral tenantcast_internal.wanted_channels(f.kind) as w
  )
  select count(*) into v_written from fresh;
  return v_written;
end;
$$;
comment on function tenantcast_internal.write_notifications(jsonb) is
  'Messages [{dedupe_key, kind, title, body, payload}] with their deliveries; a key that was used says nothing again, a '
  'rule that the tenant has switched off says nothing at all. How many were written.';

create or replace function tenantcast_internal.publish_notifications(p_notifications jsonb) returns void
language plpgsql set search_path = ''
as $$
begin
  perform tenantcast_internal.write_notifications(p_notifications);
end;
$$;

create function public.ml_write_notifications(p_tenant_id uuid, p_notifications jsonb) returns jsonb
language plpgsql security invoker set search_path = '' set role = tenantcast_worker
as $$
begin
  perform tenantcast_internal.enter_tenant(p_tenant_id);
  if jsonb_typeof(p_notifications) is distinct from 'array' then
    raise exception 'p_notifications must be an array' using errcode = 'TC001';
  end if;
  return jsonb_build_object('written', tenantcast_internal.write_notifications(p_notifications));
end;
$$;
comment on function public.ml_write_notifications(uuid, jsonb) is 'The outbox door of rules that are not part of a publish.';

create function public.ml_write_digest(p_tenant_id uuid, p_notification jsonb, p_until timestamptz) returns jsonb
language plpgsql security invoker set search_path = '' set role = tenantcast_worker
as $$
declare
  v_notification_id uuid;
begin
  perform tenantcast_internal.enter_tenant(p_tenant_id);
  insert into public.notifications (tenant_id, dedupe_key, kind, title, body, payload)
  values (
    p_tenant_id, p_notification ->> 'dedupe_key', p_notification ->> 'kind', p_notification ->> 'title',
    coalesce(p_notification ->> 'body', ''), coalesce(p_notification -> 'payload', '{}')
  )
  on conflict (tenant_id, dedupe_key) do nothing
  returning notification_id into v_notification_id;
  if v_notification_id is null then
    return jsonb_build_object('written', 0);
  end if;
  with held as (
    update public.notification_deliveries as d set state = 'digested', ended_at = clock_timestamp()
    where d.tenant_id = p_tenant_id and d.state = 'held' and d.ended_at <= p_until
    returning d.channel
  )
  insert into public.notification_deliveries (tenant_id, notification_id, channel)
  select distinct p_tenant_id, v_notification_id, h.channel from held as h;
  return jsonb_build_object('written', 1);
end;
$$;
comment on function public.ml_write_digest(uuid, jsonb, timestamptz) is
  'One message in place of all that the daily limit held back up to an instant, on the channels that those were for.';

create function public.ml_list_notifications(p_tenant_id uuid, p_limit int) returns jsonb
language plpgsql stable security invoker set search_path = '' set role = tenantcast_worker
as $$
begin
  perform tenantcast_internal.enter_tenant(p_tenant_id);
  return (
    select coalesce(jsonb_agg(jsonb_build_object(
      'notification_id', n.notification_id, 'kind', n.kind, 'title', n.title, 'body', n.body, 'payload', n.payload,
      'state', n.state, 'created_at', tenantcast_internal.iso(n.created_at),
      'deliveries', (
        select coalesce(jsonb_agg(jsonb_build_object(
          'channel', d.channel, 'state', d.state, 'tries', d.tries, 'error', d.error
        ) order by d.channel), '[]')
        from public.notification_deliveries as d
        where d.tenant_id = n.tenant_id and d.notification_id = n.notification_id
      )
    ) order by n.created_at desc, n.notification_id), '[]')
    from (
      select * from public.notifications as m where m.tenant_id = p_tenant_id
      order by m.created_at desc, m.notification_id limit least(greatest(p_limit, 1), 1000)
    ) as n
  );
end;
$$;
comment on function public.ml_list_notifications(uuid, int) is 'The newest messages and what became of each per channel.';

create function tenantcast_internal.notification_config() returns jsonb
language sql stable set search_path = ''
as $$
  select coalesce(jsonb_agg(jsonb_build_object(
    'rule', c.rule, 'channel', c.channel, 'enabled', c.enabled, 'settings', c.settings
  ) order by c.rule, c.channel), '[]')
  from public.business_notification_config as c
  where c.tenant_id = (select tenantcast_source.current_tenant())
$$;
comment on function tenantcast_internal.notification_config() is 'The current tenant''s rows of the configuration.';

create function public.ml_read_notification_config(p_tenant_id uuid) returns jsonb
language plpgsql stable security invoker set search_path = '' set role = tenantcast_worker
as $$
begin
  perform tenantcast_internal.enter_tenant(p_tenant_id);
  return jsonb_build_object(
    'rules', tenantcast_internal.notification_config(),
    'channels', (
      select coalesce(jsonb_agg(jsonb_build_object('channel', n.channel, 'address', n.address) order by n.channel), '[]')
      from public.notification_channels as n where n.tenant_id = p_tenant_id
    )
  );
end;
$$;
comment on function public.ml_read_notification_config(uuid) is 'Rules and addresses as the tenant has them.';

create function public.ml_write_notification_config(
  p_tenant_id uuid, p_rule text, p_channel text, p_enabled boolean, p_settings jsonb
) returns jsonb
language plpgsql security invoker set search_path = '' set role = tenantcast_worker
as $$
begin
  perform tenantcast_internal.enter_tenant(p_tenant_id);
  insert into public.business_notification_config (tenant_id, rule, channel, enabled, settings)
  values (p_tenant_id, p_rule, p_channel, p_enabled, coalesce(p_settings, '{}'))
  on conflict (tenant_id, rule, channel) do update set
    enabled = excluded.enabled, settings = excluded.settings, updated_at = clock_timestamp();
  return jsonb_build_object('outcome', 'written');
end;
$$;
comment on function public.ml_write_notification_config(uuid, text, text, boolean, jsonb) is
  'One rule on one channel; channel in_app holds what the rule is judged by, and whether it is on at all.';

create function public.ml_write_notification_address(p_tenant_id uuid, p_channel text, p_address text) returns jsonb
language plpgsql security invoker set search_path = '' set role = tenantcast_worker
as $$
begin
  perform tenantcast_internal.enter_tenant(p_tenant_id);
  if p_address is null then
    delete from public.notification_channels as n where n.tenant_id = p_tenant_id and n.channel = p_channel;
  else
    insert into public.notification_channels (tenant_id, channel, address) values (p_tenant_id, p_channel, p_address)
    on conflict (tenant_id, channel) do update set address = excluded.address, updated_at = clock_timestamp();
  end if;
  return jsonb_build_object('outcome', 'written');
end;
$$;
comment on function public.ml_write_notification_address(uuid, text, text) is 'A channel''s address; null removes it.';

create function tenantcast_internal.read_product_stock(p_from timestamptz, p_until timestamptz) returns jsonb
language sql stable set search_path = ''
as $$
  with sold as (
    select s.product_id, sum(s.quantity) filter (where tenantcast_internal.is_money(s.quantity)) as units
    from tenantcast_source.sales_source as s
    where s.sold_at >= p_from and s.sold_at < p_until and s.product_id is not null
    group by s.product_id
  ), urgent as (
    select p.product_id, p.name, greatest(p.stock, 0) as stock, d.units
    from tenantcast_source.product_source as p join sold as d on d.product_id = p.product_id
    where d.units > 0 and tenantcast_internal.is_money(p.stock)
    order by greatest(p.stock, 0) / d.units, p.product_id limit 50
  )
  select coalesce(jsonb_agg(jsonb_build_object(
    'product_id', u.product_id, 'name', u.name, 'stock', u.stock::double precision, 'units', u.units::double precision
  ) order by u.stock / u.units, u.product_id), '[]')
  from urgent as u
$$;
comment on function tenantcast_internal.read_product_stock(timestamptz, timestamptz) is
  'The 50 products that run out first at the rate of a period: stock, and units sold in it.';

create function public.ml_read_notification_facts(p_tenant_id uuid, p_days int) returns jsonb
language plpgsql stable security invoker set search_path = '' set role = tenantcast_worker
as $$
declare
  v_now constant timestamptz := clock_timestamp();
  v_tenant jsonb;
  v_zone text;
  v_cutoff interval;
  v_last date;
  v_first date;
  v_span record;
  v_daily jsonb;
begin
  perform tenantcast_internal.enter_tenant(p_tenant_id);
  v_tenant := tenantcast_internal.read_tenant(p_tenant_id);
  v_zone := tenantcast_internal.usable_zone(v_tenant ->> 'time_zone');
  v_cutoff := make_interval(hours => least(greatest(coalesce((v_tenant ->> 'cutoff_hour')::int, 0), 0), 23));
  v_last := tenantcast_internal.business_day(v_now, v_zone, v_cutoff) - 1;
  v_first := v_last - least(greatest(p_days, 1), 366) + 1;
  select * into v_span from tenantcast_internal.read_sales_span(v_zone, v_cutoff, v_last + 1);
  v_daily := tenantcast_internal.read_daily_sales(v_zone, v_cutoff, v_first, v_last);
  return jsonb_build_object(
    'tenant', v_tenant,
    'today', (v_now at time zone v_zone)::date,
    'last_finished_day', v_last,
    'first_sale_day', v_span.first_day,
    'last_sale_day', v_span.last_day,
    'start', v_first,
    'sales', v_daily -> 'sales',
    'rows', v_daily -> 'rows',
    'products', tenantcast_internal.read_product_stock(
      ((v_last - 27)::timestamp + v_cutoff) at time zone v_zone, ((v_last + 1)::timestamp + v_cutoff) at time zone v_zone
    ),
    'forecast', (
      select coalesce(jsonb_agg(jsonb_build_object(
        'date', p.prediction_date, 'yhat', p.predicted_values -> 'yhat',
        'yhat_lower', p.predicted_values -> 'yhat_lower', 'yhat_upper', p.predicted_values -> 'yhat_upper'
      ) order by p.prediction_date), '[]')
      from public.ml_predictions as p
      where p.tenant_id = p_tenant_id and p.prediction_type = 'sales_forecast'
        and p.prediction_date between v_last + 1 and v_last + 60
    ),
    'rules', tenantcast_internal.notification_config(),
    'held', (
      select coalesce(jsonb_agg(jsonb_build_object('kind', h.kind, 'n', h.n) order by h.kind), '[]')
      from (
        select n.kind, count(distinct n.notification_id) as n
        from public.notification_deliveries as d
        join public.notifications as n on n.tenant_id = d.tenant_id and n.notification_id = d.notification_id
        where d.tenant_id = p_tenant_id and d.state = 'held' and d.ended_at <= v_now
        group by n.kind
      ) as h
    ),
    'read_at', tenantcast_internal.iso(v_now)
  );
end;
$$;
comment on function public.ml_read_notification_facts(uuid, int) is
  'What rules and the daily summary are judged by, of one moment: sales of the last p_days finished days, stock, forecast.';

-- Deliveries -----------------------------------------------------------------------------------------------------------

create function tenantcast_internal.is_over_limit(p_delivery public.notification_deliveries, p_daily_limit int)
returns boolean
language plpgsql stable set search_path = ''
as $$
declare
  v_zone text := tenantcast_internal.usable_zone(
    tenantcast_internal.read_tenant(p_delivery.tenant_id) ->> 'time_zone'
  );
  v_midnight timestamptz := date_trunc('day', clock_timestamp() at time zone v_zone) at time zone v_zone;
begin
  return p_daily_limit <= (
    select count(*)
    from public.notification_deliveries as d
    join public.notifications as n on n.tenant_id = d.tenant_id and n.notification_id = d.notification_id
    where d.tenant_id = p_delivery.tenant_id and d.channel = p_delivery.channel and d.claimed_at >= v_midnight
      and d.notification_id <> p_delivery.notification_id and n.kind not in ('digest', 'daily_summary')
  );
end;
$$;
comment on function tenantcast_internal.is_over_limit(public.notification_deliveries, int) is
  'Has the tenant had its number of messages on this channel since its local midnight?';

create function public.ml_claim_delivery(
  p_tenant_id uuid, p_notification_id uuid, p_channel text, p_lease_seconds int, p_daily_limit int
) returns jsonb
language plpgsql security invoker set search_path = '' set role = tenantcast_worker
as $$
declare
  v_now timestamptz;
  v_delivery public.notification_deliveries;
  v_message public.notifications;
begin
  perform tenantcast_internal.enter_tenant(p_tenant_id);
  -- One claim per tenant at a time, so that two senders cannot both be within the day's limit.
  perform pg_advisory_xact_lock(hashtextextended('tenantcast notifications of ' || p_tenant_id::text, 0));
  select * into v_delivery from public.notification_deliveries as d
  where d.tenant_id = p_tenant_id and d.notification_id = p_notification_id and d.channel = p_channel for update;
  v_now := clock_timestamp();
  if v_delivery.tenant_id is null then
    return jsonb_build_object('outcome', 'unknown');
  elsif v_delivery.state = 'sending' and v_delivery.lease_until > v_now then
    return jsonb_build_object('outcome', 'busy');
  elsif v_delivery.state = 'sending' and v_delivery.losses >= 1 then
    -- Its sender was lost twice, perhaps after sending: a third time would be the third message.
    update public.notification_deliveries as d set
      state = 'failed', losses = d.losses + 1, lease_until = null, ended_at = v_now, error = 'worker_lost'
    where d.tenant_id = p_tenant_id and d.notification_id = p_notification_id and d.channel = p_channel;
    perform tenantcast_internal.settle_notification(p_notification_id);
    return jsonb_build_object('outcome', 'finished', 'state', 'failed');
  elsif v_delivery.state not in ('pending', 'sending') then
    return jsonb_build_object('outcome', 'finished', 'state', v_delivery.state);
  elsif v_delivery.state = 'pending' and v_delivery.not_before > v_now then
    return jsonb_build_object('outcome', 'later');
  end if;
  select * into v_message from public.notifications as n
  where n.tenant_id = p_tenant_id and n.notification_id = p_notification_id;
  if v_message.kind not in ('digest', 'daily_summary') and v_delivery.claimed_at is null
     and tenantcast_internal.is_over_limit(v_delivery, p_daily_limit) then
    update public.notification_deliveries as d set state = 'held', ended_at = v_now
    where d.tenant_id = p_tenant_id and d.notification_id = p_notification_id and d.channel = p_channel;
    return jsonb_build_object('outcome', 'held');
  end if;
  update public.notification_deliveries as d set
    state = 'sending', fence = d.fence + 1, losses = d.losses + (d.state = 'sending')::int, claimed_at = v_now,
    lease_until = v_now + make_interval(secs => p_lease_seconds)
  where d.tenant_id = p_tenant_id and d.notification_id = p_notification_id and d.channel = p_channel
  returning * into v_delivery;
  return jsonb_build_object(
    'outcome', 'claimed', 'fence', v_delivery.fence, 'tries', v_delivery.tries,
    'address', (
      select c.address from public.notification_channels as c
      where c.tenant_id = p_tenant_id and c.channel = p_channel
    ),
    'message', jsonb_build_object(
      'notification_id', v_message.notification_id, 'kind', v_message.kind, 'title', v_message.title,
      'body', v_message.body, 'payload', v_message.payload, 'created_at', tenantcast_internal.iso(v_message.created_at)
    )
  );
end;
$$;
comment on function public.ml_claim_delivery(uuid, uuid, text, int, int) is
  'Take one message for one channel to send, under a lease; over the day''s limit it is held for the digest instead.';

create function tenantcast_internal.settle_notification(p_notification_id uuid) returns void
language sql set search_path = ''
as $$
  update public.notifications as n set
    state = case when s.n_sent > 0 then 'sent' else 'failed' end,
    sent_at = case when s.n_sent > 0 then clock_timestamp() end
  from (
    select
      count(*) filter (where d.state = 'sent') as n_sent, count(*) filter (where d.state = 'failed') as n_failed,
      count(*) filter (where d.state in ('pending', 'sending')) as n_open
    from public.notification_deliveries as d
    where d.tenant_id = (select tenantcast_source.current_tenant()) and d.notification_id = p_notification_id
  ) as s
  where n.tenant_id = (select tenantcast_source.current_tenant()) and n.notification_id = p_notification_id
    and n.state = 'pending' and s.n_open = 0 and s.n_sent + s.n_failed > 0
$$;
comment on function tenantcast_internal.settle_notification(uuid) is
  'Once nothing of a message is open: sent, or failed when no channel could be reached. One that was read stays read.';

create function public.ml_end_delivery(
  p_tenant_id uuid, p_notification_id uuid, p_channel text, p_fence bigint, p_state text, p_error text,
  p_retry_in_seconds int, p_counts boolean
) returns jsonb
language plpgsql security invoker set search_path = '' set role = tenantcast_worker
as $$
begin
  perform tenantcast_internal.enter_tenant(p_tenant_id);
  if p_state not in ('sent', 'failed', 'pending') then
    raise exception 'a delivery ends as sent, failed or pending' using errcode = 'TC001';
  end if;
  update public.notification_deliveries as d set
    state = p_state, error = p_error, lease_until = null, tries = d.tries + p_counts::int,
    ended_at = case when p_state <> 'pending' then clock_timestamp() end,
    not_before = clock_timestamp() + make_interval(secs => coalesce(p_retry_in_seconds, 0))
  where d.tenant_id = p_tenant_id and d.notification_id = p_notification_id and d.channel = p_channel
    and d.fence = p_fence and d.state = 'sending';
  if not found and not exists (
    -- A repeat after a lost answer.
    select 1 from public.notification_deliveries as d
    where d.tenant_id = p_tenant_id and d.notification_id = p_notification_id and d.channel = p_channel
      and d.fence = p_fence and d.state = p_state
  ) then
    return jsonb_build_object('outcome', 'lost');
  end if;
  perform tenantcast_internal.settle_notification(p_notification_id);
  return jsonb_build_object('outcome', p_state);
end;
$$;
comment on function public.ml_end_delivery(uuid, uuid, text, bigint, text, text, int, boolean) is
  'What became of a claimed delivery; one whose lease was taken over is told "lost" and changes nothing.';

-- Which tenants and which messages are due: ids only --------------------------------------------------------------------

create function public.ml_due_deliveries(p_limit int) returns jsonb
language plpgsql stable security invoker set search_path = '' set role = tenantcast_system
as $$
declare
  v_now constant timestamptz := clock_timestamp();
begin
  return (
    select coalesce(jsonb_agg(jsonb_build_object(
      'tenant_id', due.tenant_id, 'notification_id', due.notification_id, 'channel', due.channel
    ) order by due.turn, due.not_before, due.tenant_id), '[]')
    from (
      -- Round robin: a tenant with a thousand messages does not keep the others waiting.
      select d.*, row_number() over (partition by d.tenant_id order by d.not_before, d.notification_id) as turn
      from public.notification_deliveries as d
      where d.state in ('pending', 'sending')
        and case when d.state = 'pending' then d.not_before else d.lease_until end <= v_now
      order by turn, d.not_before, d.tenant_id limit least(greatest(p_limit, 1), 1000)
    ) as due
  );
end;
$$;
comment on function public.ml_due_deliveries(int) is
  'Messages that can be sent now, or whose sender was lost; tenants take turns.';

create function tenantcast_internal.summary_day(p_now timestamptz, p_zone text, p_hour int, p_hours_late int)
returns date
language sql stable set search_path = ''
as $$
  -- Wall clock against wall clock: a day of 23 or 25 hours has one 08:00 like any other.
  select case
    when (local_now.at)::time >= make_time(p_hour, 0, 0)
      and local_now.at < date_trunc('day', local_now.at) + make_interval(hours => p_hour + p_hours_late)
    then local_now.at::date
  end
  from (select p_now at time zone tenantcast_internal.usable_zone(p_zone) as at) as local_now
$$;
comment on function tenantcast_internal.summary_day(timestamptz, text, int, int) is
  'The tenant''s local date when its daily summary is due (past the hour, not too late), else null.';

create function public.ml_due_notification_ticks(
  p_job text, p_limit int, p_lease_seconds int, p_period_seconds int, p_hour int
) returns jsonb
language plpgsql security invoker set search_path = '' set role = tenantcast_system
as $$
declare
  v_now constant timestamptz := clock_timestamp();
  v_hours_late constant int := 6;
  v_due jsonb;
begin
  with slot as (
    select
      s.tenant_id,
      case p_job
        when 'summary' then tenantcast_internal.summary_day(v_now, s.time_zone, p_hour, v_hours_late)::text
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
comment on function public.ml_due_notification_ticks(text, int, int, int, int) is
  'Takes tenants whose rules (one slot per period) or daily summary (one slot per local date) are due, under a lease.';

create function public.ml_end_notification_tick(p_tenant_id uuid, p_job text, p_slot text) returns jsonb
language plpgsql security invoker set search_path = '' set role = tenantcast_system
as $$
begin
  insert into public.notification_ticks as t (tenant_id, job, done_slot) values (p_tenant_id, p_job, p_slot)
  on conflict (tenant_id, job) do update set done_slot = excluded.done_slot, lease_until = null;
  return jsonb_build_object('outcome', 'done');
end;
$$;
comment on function public.ml_end_notification_tick(uuid, text, text) is 'This tenant is done until its next slot.';

revoke all on all routines in schema tenantcast_internal from public;
grant execute on function
  tenantcast_internal.wanted_channels(text), tenantcast_internal.write_notifications(jsonb),
  tenantcast_internal.notification_config(), tenantcast_internal.read_product_stock(timestamptz, timestamptz),
  tenantcast_internal.settle_notification(uuid),
  tenantcast_internal.is_over_limit(public.notification_deliveries, int)
to tenantcast_worker;
grant execute on function
  tenantcast_internal.summary_day(timestamptz, text, int, int), tenantcast_internal.usable_zone(text)
to tenantcast_system;
call tenantcast_internal.expose_function('public.ml_write_notifications(uuid, jsonb)');
call tenantcast_internal.expose_function('public.ml_write_digest(uuid, jsonb, timestamptz)');
call tenantcast_internal.expose_function('public.ml_list_notifications(uuid, int)');
call tenantcast_internal.expose_function('public.ml_read_notification_config(uuid)');
call tenantcast_internal.expose_function('public.ml_write_notification_config(uuid, text, text, boolean, jsonb)');
call tenantcast_internal.expose_function('public.ml_write_notification_address(uuid, text, text)');
call tenantcast_internal.expose_function('public.ml_read_notification_facts(uuid, int)');
call tenantcast_internal.expose_function('public.ml_claim_delivery(uuid, uuid, text, int, int)');
call tenantcast_internal.expose_function(
  'public.ml_end_delivery(uuid, uuid, text, bigint, text, text, int, boolean)'
);
call tenantcast_internal.expose_function('public.ml_due_deliveries(int)');
call tenantcast_internal.expose_function('public.ml_due_notification_ticks(text, int, int, int, int)');
call tenantcast_internal.expose_function('public.ml_end_notification_tick(uuid, text, text)');

notify pgrst, 'reload schema';
