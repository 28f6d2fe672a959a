-- Where messages go, what became of each on its way, and who has been looked at: beside `notifications`, the outbox.
set lock_timeout = '5s';

create table public.notification_channels (
  tenant_id uuid not null,
  channel text not null check (channel in ('email', 'webhook', 'chat')),
  address text not null check (octet_length(address) between 3 and 2000),
  updated_at timestamptz not null default clock_timestamp(),
  primary key (tenant_id, channel)
);
comment on table public.notification_channels is
  'A tenant''s address per channel. Addresses of webhooks and chats are secrets: no dashboard reads this table.';
call tenantcast_internal.protect_table(
  'public.notification_channels', array['select', 'insert', 'update', 'delete']
);

create table public.notification_deliveries (
  tenant_id uuid not null,
  notification_id uuid not null,
  channel text not null check (channel in ('email', 'webhook', 'chat')),
  state text not null default 'pending'
    check (state in ('pending', 'sending', 'sent', 'failed', 'held', 'digested')),
  fence bigint not null default 0,
  tries int not null default 0,
  losses int not null default 0,
  not_before timestamptz not null default clock_timestamp(),
  lease_until timestamptz,
  claimed_at timestamptz,
  ended_at timestamptz,
  error text check (octet_length(error) <= 400),
  primary key (tenant_id, notification_id, channel),
  foreign key (tenant_id, notification_id) references public.notifications on delete cascade,
  check ((state = 'sending') = (lease_until is not null))
);
comment on table public.notification_deliveries is
  'One row per message and channel, written with the message: a lease and a fence part two senders, as in the ledger.';
create index notification_deliveries_open on public.notification_deliveries (tenant_id, not_before)
  where state in ('pending', 'sending');
create index notification_deliveries_by_day on public.notification_deliveries (tenant_id, channel, claimed_at);
call tenantcast_internal.protect_table(
  'public.notification_deliveries', array['select', 'insert', 'update', 'delete'], p_system_actions => array['select']
);

create table public.notification_ticks (
  tenant_id uuid not null,
  job text not null check (job in ('rules', 'summary')),
  done_slot text check (octet_length(done_slot) <= 100),
  lease_until timestamptz,
  primary key (tenant_id, job)
);
comment on table public.notification_ticks is
  'Until which slot a tenant''s rules were looked at and its daily summary was written. Holds nothing of the tenant.';
call tenantcast_internal.protect_table(
  'public.notification_ticks', array[]::text[], p_system_actions => array['select', 'insert', 'update']
);

notify pgrst, 'reload schema';
