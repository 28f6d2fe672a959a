-- A role that may delete what is old, and nothing else: it reads keys and times, never what a tenant wrote or sold.
-- The floor of seven days, and that what is in use stays, stand in its policies: no caller can ask for more.
set lock_timeout = '5s';

do $$
declare
  v_can text := case when current_setting('server_version_num')::int >= 160000 then 'SET' else 'MEMBER' end;
begin
  if not exists (select 1 from pg_catalog.pg_roles where rolname = 'tenantcast_maintenance') then
    begin
      create role tenantcast_maintenance nologin;
    exception when duplicate_object or unique_violation then
      raise notice 'role tenantcast_maintenance was created by another migration just now';
    end;
  end if;
  if not pg_catalog.pg_has_role(current_user, 'tenantcast_maintenance', v_can) then
    execute format('grant tenantcast_maintenance to %I', current_user);
  end if;
  if not pg_catalog.pg_has_role('service_role', 'tenantcast_maintenance', v_can) then
    grant tenantcast_maintenance to service_role;
  end if;
end;
$$;
grant usage on schema public, tenantcast_internal to tenantcast_maintenance;

create function tenantcast_internal.old_enough(p_at timestamptz) returns boolean
language sql stable set search_path = ''
as $$ select coalesce(p_at < now() - interval '7 days', false) $$;
comment on function tenantcast_internal.old_enough(timestamptz) is
  'The floor of every clean-up: nothing younger than seven days goes, whatever the settings say.';

create procedure tenantcast_internal.let_maintenance(p_table regclass, p_columns text[], p_may_delete text)
language plpgsql set search_path = ''
as $$
begin
  execute format(
    'grant select (%s) on %s to tenantcast_maintenance',
    (select string_agg(quote_ident(c), ', ') from unnest(p_columns) as c), p_table
  );
  execute format(
    'create policy "Maintenance may see keys and times of every tenant" on %s for select to tenantcast_maintenance '
    'using (true)', p_table
  );
  if p_may_delete is not null then
    execute format('grant delete on %s to tenantcast_maintenance', p_table);
    execute format(
      'create policy "Maintenance may delete what is old and not in use" on %s for delete to tenantcast_maintenance '
      'using (%s)', p_table, p_may_delete
    );
  end if;
end;
$$;
comment on procedure tenantcast_internal.let_maintenance(regclass, text[], text) is
  'Grants and policies of the maintenance role on one table: the columns it may see, which rows it may delete.';

call tenantcast_internal.let_maintenance(
  'public.ml_active_forecast', array['tenant_id', 'run_id', 'input_hash', 'model_type', 'model_version'], null
);
call tenantcast_internal.let_maintenance('public.ml_forecast_ledger', array['tenant_id', 'input_hash'], null);
call tenantcast_internal.let_maintenance(
  'public.notifications', array['tenant_id', 'notification_id', 'created_at'],
  'tenantcast_internal.old_enough(created_at)'
);
call tenantcast_internal.let_maintenance(
  'public.ml_quarantine', array['tenant_id', 'source', 'line', 'quarantined_at'],
  'tenantcast_internal.old_enough(quarantined_at)'
);
call tenantcast_internal.let_maintenance(
  'public.ml_predictions', array['tenant_id', 'prediction_date', 'prediction_type', 'run_id'],
  $$tenantcast_internal.old_enough(prediction_date::timestamp at time zone 'UTC') and not exists (
    select 1 from public.ml_active_forecast as a
    where a.tenant_id = ml_predictions.tenant_id and a.run_id = ml_predictions.run_id
  )$$
);
call tenantcast_internal.let_maintenance(
  'public.ml_models', array['tenant_id', 'model_type', 'model_version', 'stage', 'last_trained', 'fence'],
  $$stage = 'archived' and tenantcast_internal.old_enough(last_trained) and not exists (
    select 1 from public.ml_active_forecast as a
    where a.tenant_id = ml_models.tenant_id and a.model_type = ml_models.model_type
      and a.model_version = ml_models.model_version
  )$$
);
call tenantcast_internal.let_maintenance(
  'public.ml_input_snapshot', array['tenant_id', 'input_hash', 'created_at'],
  $$tenantcast_internal.old_enough(created_at) and not exists (
    select 1 from public.ml_forecast_ledger as l
    where l.tenant_id = ml_input_snapshot.tenant_id and l.input_hash = ml_input_snapshot.input_hash
  ) and not exists (
    select 1 from public.ml_active_forecast as a
    where a.tenant_id = ml_input_snapshot.tenant_id and a.input_hash = ml_input_snapshot.input_hash
  )$$
);
call tenantcast_internal.let_maintenance(
  'public.ml_run_item', array['run_id', 'tenant_id', 'state', 'finished_at'],
  $$state in ('done', 'failed', 'skipped') and tenantcast_internal.old_enough(finished_at) and not exists (
    select 1 from public.ml_active_forecast as a
    where a.tenant_id = ml_run_item.tenant_id and a.run_id = ml_run_item.run_id
  )$$
);
call tenantcast_internal.let_maintenance(
  'public.ml_run', array['run_id', 'kind', 'finished_at'],
  $$tenantcast_internal.old_enough(finished_at) and not exists (
    select 1 from public.ml_run_item as i where i.run_id = ml_run.run_id
  )$$
);

-- Oldest first, without reading the young.
create index notifications_by_age on public.notifications (created_at);
create index ml_quarantine_by_age on public.ml_quarantine (quarantined_at);
create index ml_predictions_by_age on public.ml_predictions (prediction_date);
create index ml_models_archived_by_age on public.ml_models (last_trained) where stage = 'archived';
create index ml_input_snapshot_by_age on public.ml_input_snapshot (created_at);
create index ml_run_item_by_end on public.ml_run_item (finished_at) where finished_at is not null;
create index ml_run_by_end on public.ml_run (finished_at) where finished_at is not null;

revoke all on all routines in schema tenantcast_internal from public;
grant execute on function tenantcast_internal.old_enough(timestamptz) to tenantcast_maintenance;

-- The helpers and the lint of the first migrations, now with three roles.

create or replace procedure tenantcast_internal.expose_function(p_function regprocedure)
language plpgsql set search_path = ''
as $$
declare
  v_role text;
begin
  select substr(c, length('role=') + 1) into v_role
  from pg_catalog.pg_proc as f, unnest(f.proconfig) as c
  where f.oid = p_function and c like 'role=%';
  if v_role is null or v_role not in ('tenantcast_worker', 'tenantcast_system', 'tenantcast_maintenance') then
    raise exception 'function % must be made with "set role"', p_function;
  end if;
  execute format('revoke all on function %s from public, anon, authenticated', p_function);
  execute format('grant execute on function %s to service_role, %I', p_function, v_role);
end;
$$;

create or replace function tenantcast_internal.our_tables(p_everything boolean) returns setof regclass
language sql stable set search_path = ''
as $$
  -- Ours by name, or because our roles may use it; with p_everything, every table of the schema.
  select c.oid::regclass
  from pg_catalog.pg_class as c
  where c.relnamespace = 'public'::regnamespace and c.relkind in ('r', 'p') and (
    p_everything
    or c.relname like 'ml\_%'
    or c.relname in ('tenant_ml_settings', 'tenant_calendar', 'notifications', 'business_notification_config')
    or exists (
      select 1 from pg_catalog.aclexplode(c.relacl) as a
      where a.grantee in (
        'tenantcast_worker'::regrole, 'tenantcast_system'::regrole, 'tenantcast_maintenance'::regrole
      )
    )
  )
$$;

create or replace function tenantcast_internal.lint_tables(p_everything boolean)
returns table (problem text, object text)
language sql stable set search_path = ''
as $$
  select 'row security is not on and forced', c.oid::regclass::text
  from tenantcast_internal.our_tables(p_everything) as o join pg_catalog.pg_class as c on c.oid = o
  where not (c.relrowsecurity and c.relforcerowsecurity)
  union all
  select 'no policy', o::text from tenantcast_internal.our_tables(p_everything) as o
  where not exists (select 1 from pg_catalog.pg_policy as p where p.polrelid = o)
  union all
  select 'granted to ' || coalesce(r.rolname, 'public'), o::text
  from tenantcast_internal.our_tables(p_everything) as o
  join pg_catalog.pg_class as c on c.oid = o
  cross join lateral pg_catalog.aclexplode(c.relacl) as a
  left join pg_catalog.pg_roles as r on r.oid = a.grantee
  where coalesce(r.rolname, 'public') in ('public', 'anon', 'service_role')
     or (r.rolname = 'authenticated' and a.privilege_type <> 'SELECT')
     -- Maintenance sees the columns that it was given, and removes rows: on a whole table it has no other right.
     or (r.rolname = 'tenantcast_maintenance' and a.privilege_type <> 'DELETE')
  union all
  select 'policy "' || p.polname || '" lets ' || r.role || ' see every tenant', p.polrelid::regclass::text
  from pg_catalog.pg_policy as p
  join tenantcast_internal.our_tables(p_everything) as o on o = p.polrelid
  cross join lateral (
    select case when oid = 0 then 'public' else oid::regrole::text end as role from unnest(p.polroles) as oid
  ) as r
  where r.role <> 'tenantcast_system' and not (r.role = 'tenantcast_maintenance' and p.polcmd = 'r') and (
    pg_catalog.pg_get_expr(p.polqual, p.polrelid) = 'true'
    or pg_catalog.pg_get_expr(p.polwithcheck, p.polrelid) = 'true'
  )
  union all
  -- A unique key without the tenant tells one tenant what another one has (constraints ignore row security).
  select 'unique index without tenant_id', x.indexrelid::regclass::text
  from pg_catalog.pg_index as x join tenantcast_internal.our_tables(p_everything) as o on o = x.indrelid
  where x.indisunique and o <> 'public.ml_run'::regclass and not exists (
    select 1 from pg_catalog.pg_attribute as a
    where a.attrelid = x.indrelid and a.attnum = any (x.indkey::smallint[]) and a.attname = 'tenant_id'
  )
$$;

create or replace function tenantcast_internal.lint_functions() returns table (problem text, object text)
language sql stable set search_path = ''
as $$
  select l.problem, f.oid::regprocedure::text
  from pg_catalog.pg_proc as f
  cross join lateral (
    select 'function may be called by ' || who as problem
    from unnest(array['anon', 'authenticated']) as who
    where pg_catalog.has_function_privilege(who, f.oid, 'execute')
    union all
    select 'function runs as its owner' where f.prosecdef
    union all
    select 'function does not switch to a role of ours' where not coalesce(f.proconfig, '{}') && array[
      'role=tenantcast_worker', 'role=tenantcast_system', 'role=tenantcast_maintenance'
    ]
    union all
    select 'function has no fixed search_path' where not coalesce(f.proconfig, '{}') @> array['search_path=""']
  ) as l
  where f.pronamespace = 'public'::regnamespace and f.proname like 'ml\_%'
  union all
  select 'function that runs as its owner may be called by ' || who, f.oid::regprocedure::text
  from pg_catalog.pg_proc as f
  cross join unnest(
    array['anon', 'authenticated', 'service_role', 'tenantcast_worker', 'tenantcast_maintenance']
  ) as who
  where f.pronamespace in ('tenantcast_internal'::regnamespace, 'tenantcast_source'::regnamespace) and f.prosecdef
    and pg_catalog.has_function_privilege(who, f.oid, 'execute')
    -- service_role is a member of tenantcast_system: what it inherits from there is meant.
    and not (who = 'service_role' and pg_catalog.pg_has_role(who, 'tenantcast_system', 'usage')
             and pg_catalog.has_function_privilege('tenantcast_system', f.oid, 'execute'))
$$;

create or replace function tenantcast_internal.lint_roles() returns table (problem text, object text)
language sql stable set search_path = ''
as $$
  select 'role may ignore row security or log in', r.rolname::text
  from pg_catalog.pg_roles as r
  where r.rolname in ('tenantcast_worker', 'tenantcast_system', 'tenantcast_maintenance')
    and (r.rolsuper or r.rolbypassrls or r.rolcanlogin or r.rolcreaterole)
  union all
  select 'role is a member of ' || m.roleid::regrole::text, m.member::regrole::text
  from pg_catalog.pg_auth_members as m
  where m.member in (
    'tenantcast_worker'::regrole, 'tenantcast_system'::regrole, 'tenantcast_maintenance'::regrole
  )
$$;

create or replace function tenantcast_internal.roles_json() returns jsonb
language sql stable set search_path = ''
as $$
  select jsonb_object_agg(r.rolname, jsonb_build_object(
    'superuser', r.rolsuper, 'bypass_row_security', r.rolbypassrls, 'can_log_in', r.rolcanlogin
  ))
  from pg_catalog.pg_roles as r
  where r.rolname in (
    'anon', 'authenticated', 'service_role', 'tenantcast_worker', 'tenantcast_system', 'tenantcast_maintenance'
  )
$$;

notify pgrst, 'reload schema';
