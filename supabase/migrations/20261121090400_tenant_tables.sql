-- What a tenant tells us and what we tell a tenant: settings, calendar, features, quarantine, messages.
set lock_timeout = '5s';

create table public.tenant_ml_settings (
  tenant_id uuid primary key,
  settings jsonb not null check (jsonb_typeof(settings) = 'object' and octet_length(settings::text) <= 16384),
  updated_at timestamptz not null default clock_timestamp()
);
comment on table public.tenant_ml_settings is
  'Overrides of a tenant, as written; the worker validates them field by field at each run.';
call tenantcast_internal.protect_table(
  'public.tenant_ml_settings', array['select', 'insert', 'update', 'delete'],
  array['tenant_id', 'settings', 'updated_at']
);

create table public.tenant_calendar (
  tenant_id uuid not null,
  day date not null check (tenantcast_internal.is_sane_date(day)),
  kind text not null check (kind in ('closure', 'promotion', 'event')),
  name text not null default '' check (octet_length(name) <= 400),
  primary key (tenant_id, day, kind)
);
comment on table public.tenant_calendar is 'Closures, promotions and events that are known ahead.';
call tenantcast_internal.protect_table(
  'public.tenant_calendar', array['select', 'insert', 'update', 'delete'], array['tenant_id', 'day', 'kind', 'name']
);

create table public.ml_features (
  tenant_id uuid not null,
  feature_date date not null check (tenantcast_internal.is_sane_date(feature_date)),
  feature_type text not null check (feature_type ~ '^[a-z][a-z0-9_]{0,59}$'),
  feature_values jsonb not null
    check (jsonb_typeof(feature_values) = 'object' and octet_length(feature_values::text) <= 1048576),
  updated_at timestamptz not null default clock_timestamp(),
  primary key (tenant_id, feature_date, feature_type)
);
comment on table public.ml_features is 'Derived values per day: daily total, moving averages, inventory snapshot.';
call tenantcast_internal.protect_table(
  'public.ml_features', array['select', 'insert', 'update', 'delete'],
  array['tenant_id', 'feature_date', 'feature_type', 'feature_values', 'updated_at']
);

create table public.ml_quarantine (
  tenant_id uuid not null,
  source text not null check (octet_length(source) between 1 and 400),
  line bigint not null check (line >= 0),
  reason text not null check (octet_length(reason) between 1 and 400),
  raw text check (octet_length(raw) <= 4000),
  quarantined_at timestamptz not null default clock_timestamp(),
  primary key (tenant_id, source, line)
);
comment on table public.ml_quarantine is 'Rows of an import that are no sales, with line number and reason.';
call tenantcast_internal.protect_table('public.ml_quarantine', array['select', 'insert', 'update', 'delete']);

create table public.notifications (
  tenant_id uuid not null,
  notification_id uuid not null default gen_random_uuid(),
  dedupe_key text not null check (octet_length(dedupe_key) between 1 and 400),
  kind text not null check (octet_length(kind) between 1 and 100),
  title text not null check (octet_length(title) <= 400),
  body text not null default '' check (octet_length(body) <= 10000),
  payload jsonb not null default '{}'
    check (jsonb_typeof(payload) = 'object' and octet_length(payload::text) <= 65536),
  state text not null default 'pending' check (state in ('pending', 'sent', 'failed', 'read')),
  created_at timestamptz not null default clock_timestamp(),
  sent_at timestamptz,
  read_at timestamptz,
  primary key (tenant_id, notification_id),
  constraint notifications_say_a_thing_once unique (tenant_id, dedupe_key)
);
comment on table public.notifications is 'Outbox: written in the transaction that publishes, sent later, each once.';
create index notifications_by_state on public.notifications (tenant_id, state, created_at);
call tenantcast_internal.protect_table(
  'public.notifications', array['select', 'insert', 'update', 'delete'],
  array['tenant_id', 'notification_id', 'kind', 'title', 'body', 'payload', 'state', 'created_at', 'read_at']
);

create table public.business_notification_config (
  tenant_id uuid not null,
  rule text not null check (octet_length(rule) between 1 and 100),
  channel text not null check (octet_length(channel) between 1 and 100),
  enabled boolean not null default true,
  settings jsonb not null default '{}'
    check (jsonb_typeof(settings) = 'object' and octet_length(settings::text) <= 16384),
  updated_at timestamptz not null default clock_timestamp(),
  primary key (tenant_id, rule, channel)
);
comment on table public.business_notification_config is 'Which messages a tenant wants, and where.';
call tenantcast_internal.protect_table(
  'public.business_notification_config', array['select', 'insert', 'update', 'delete'],
  array['tenant_id', 'rule', 'channel', 'enabled', 'settings', 'updated_at']
);

notify pgrst, 'reload schema';
