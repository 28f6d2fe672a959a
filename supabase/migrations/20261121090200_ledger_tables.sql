-- The ledger of work: runs, one item per tenant of a run, and the numbers that fence zombies off.
set lock_timeout = '5s';

create sequence public.ml_fence_seq;
comment on sequence public.ml_fence_seq is 'Every claim takes the next number; a write with an older one is refused.';
revoke all on sequence public.ml_fence_seq from public, anon, authenticated, service_role;
grant usage on sequence public.ml_fence_seq to tenantcast_worker;

create table public.ml_run (
  run_id uuid primary key default gen_random_uuid(),
  kind text not null check (kind ~ '^[a-z][a-z0-9_-]{0,39}$'),
  slot timestamptz,
  params jsonb not null default '{}'
    check (jsonb_typeof(params) = 'object' and octet_length(params::text) <= 65536),
  code_version text not null check (octet_length(code_version) between 1 and 100),
  created_at timestamptz not null default clock_timestamp(),
  finished_at timestamptz,
  constraint ml_run_one_per_slot unique (kind, slot)
);
comment on table public.ml_run is 'One run over many tenants; a schedule''s slot makes at most one (any number of beats).';
create index ml_run_by_age on public.ml_run (created_at desc, run_id);

create table public.ml_run_item (
  run_id uuid not null references public.ml_run on delete cascade,
  tenant_id uuid not null,
  state text not null default 'pending' check (state in ('pending', 'running', 'done', 'failed', 'skipped')),
  attempt int not null default 0 check (attempt between 0 and 5),
  losses int not null default 0 check (losses between 0 and 2),
  fence bigint,
  lease_until timestamptz,
  not_before timestamptz not null default clock_timestamp(),
  stage text check (octet_length(stage) <= 100),
  reason text check (octet_length(reason) <= 4000),
  error jsonb check (jsonb_typeof(error) = 'object' and octet_length(error::text) <= 65536),
  report jsonb check (jsonb_typeof(report) = 'object' and octet_length(report::text) <= 4194304),
  answer jsonb,
  source_rows bigint,
  as_of date check (tenantcast_internal.is_sane_date(as_of)),
  input_hash text check (input_hash ~ '^[0-9a-f]{1,128}$'),
  output_hash text check (output_hash ~ '^[0-9a-f]{1,128}$'),
  code_version text check (octet_length(code_version) <= 100),
  model_version text check (octet_length(model_version) <= 200),
  parent_model_version text check (octet_length(parent_model_version) <= 200),
  created_at timestamptz not null default clock_timestamp(),
  started_at timestamptz,
  finished_at timestamptz,
  primary key (run_id, tenant_id),
  check (state <> 'running' or (fence is not null and lease_until is not null)),
  check (state <> 'pending' or attempt < 4),
  check ((state in ('done', 'failed', 'skipped')) = (finished_at is not null))
);
comment on table public.ml_run_item is
  'One tenant of one run: who works on it (fence, lease), how often it was tried, how it ended and why.';
comment on column public.ml_run_item.losses is 'How often a lease ran out: a worker died or froze. Two park the item.';
comment on column public.ml_run_item.answer is 'What publish answered, to answer the same to a repeat.';
comment on column public.ml_run_item.source_rows is 'Sales rows, roughly: tenants with few are forecast first.';
create unique index ml_run_item_one_running on public.ml_run_item (tenant_id) where state = 'running';
create index ml_run_item_by_tenant on public.ml_run_item (tenant_id, created_at desc);
create index ml_run_item_open on public.ml_run_item (tenant_id, run_id) where state in ('pending', 'running');

call tenantcast_internal.protect_table(
  'public.ml_run_item', array['select', 'update'],
  array['run_id', 'tenant_id', 'state', 'attempt', 'stage', 'reason', 'as_of', 'model_version', 'created_at',
        'started_at', 'finished_at'],
  array['select', 'insert', 'update']
);

alter table public.ml_run enable row level security;
alter table public.ml_run force row level security;
revoke all on public.ml_run from public, anon, authenticated, service_role;
grant select on public.ml_run to tenantcast_worker;
grant select, insert, update on public.ml_run to tenantcast_system;
create policy "Workers may select runs that hold an item of the tenant they work for" on public.ml_run
  for select to tenantcast_worker
  using (exists (select 1 from public.ml_run_item as i where i.run_id = ml_run.run_id));
create policy "The system role may select every run" on public.ml_run
  for select to tenantcast_system using (true);
create policy "The system role may insert every run" on public.ml_run
  for insert to tenantcast_system with check (true);
create policy "The system role may update every run" on public.ml_run
  for update to tenantcast_system using (true) with check (true);

notify pgrst, 'reload schema';
