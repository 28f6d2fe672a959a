-- Roles, and the helpers that every later migration uses to protect a table or to expose a function.
set lock_timeout = '5s';

-- Supabase has the first three; plain Postgres gets them, so that one set of grants fits both. None of them may log in.
-- Roles belong to the whole cluster: another database may be creating them at this very moment.
do $$
declare
  v_role text;
  v_can text := case when current_setting('server_version_num')::int >= 160000 then 'SET' else 'MEMBER' end;
begin
  foreach v_role in array array['anon', 'authenticated', 'service_role', 'tenantcast_worker', 'tenantcast_system'] loop
    if not exists (select 1 from pg_catalog.pg_roles where rolname = v_role) then
      begin
        execute format('create role %I nologin', v_role);
      exception when duplicate_object or unique_violation then
        raise notice 'role % was created by another migration just now', v_role;
      end;
    end if;
  end loop;
  -- Functions switch to these two with "set role": the session's login has to be a member, directly or not.
  foreach v_role in array array['tenantcast_worker', 'tenantcast_system'] loop
    if not pg_catalog.pg_has_role(current_user, v_role, v_can) then
      execute format('grant %I to %I', v_role, current_user);
    end if;
    if not pg_catalog.pg_has_role('service_role', v_role, v_can) then
      execute format('grant %I to service_role', v_role);
    end if;
  end loop;
end;
$$;

create schema tenantcast_internal;
comment on schema tenantcast_internal is 'Helpers of tenantcast; not exposed by PostgREST.';
create schema tenantcast_source;
comment on schema tenantcast_source is 'The only place that reads the product''s tables; not exposed by PostgREST.';
grant usage on schema tenantcast_internal to tenantcast_worker, tenantcast_system, authenticated;
grant usage on schema tenantcast_source to tenantcast_worker, tenantcast_system;
grant usage on schema public to tenantcast_worker, tenantcast_system;

create function tenantcast_source.current_tenant() returns uuid
language sql stable set search_path = ''
as $$ select nullif(current_setting('app.tenant_id', true), '')::uuid $$;
comment on function tenantcast_source.current_tenant() is
  'The tenant that this transaction works for; null (which matches no row) before enter_tenant.';

create function tenantcast_internal.claimed_tenant() returns uuid
language plpgsql stable set search_path = ''
as $$
declare
  v_claims jsonb;
begin
  v_claims := nullif(current_setting('request.jwt.claims', true), '')::jsonb;
  -- app_metadata is written by the server alone; user_metadata, which users edit, is never read.
  return coalesce(v_claims ->> 'tenant_id', v_claims -> 'app_metadata' ->> 'tenant_id')::uuid;
exception when invalid_text_representation then
  return null;
end;
$$;
comment on function tenantcast_internal.claimed_tenant() is
  'The tenant in the token of a signed-in user; null (which matches no row) when it holds none or garbage.';

create function tenantcast_internal.enter_tenant(p_tenant_id uuid) returns void
language plpgsql set search_path = ''
as $$
begin
  if p_tenant_id is null then
    raise exception 'p_tenant_id must not be null' using errcode = 'TC001';
  end if;
  perform set_config('app.tenant_id', p_tenant_id::text, true);
end;
$$;
comment on function tenantcast_internal.enter_tenant(uuid) is
  'The first statement of every tenant function: row security shows this tenant alone until the transaction ends.';

create function tenantcast_internal.iso(p_at timestamptz) returns text
language sql immutable set search_path = ''
as $$ select to_char(p_at at time zone 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"') $$;
comment on function tenantcast_internal.iso(timestamptz) is
  'An instant as ISO 8601 in UTC, whatever time zone the session has: both gateways give equal text.';

create function tenantcast_internal.is_number(p_value jsonb) returns boolean
language sql immutable set search_path = ''
as $$
  -- 1e400 is a jsonb number that no float8 can hold; text "NaN" would cast without complaint.
  select case when jsonb_typeof(p_value) = 'number' then abs(p_value::numeric) <= 1e18 else false end
$$;
comment on function tenantcast_internal.is_number(jsonb) is
  'True for a JSON number of at most 1e18 in size; false for text, null, an absent key or anything else.';

create function tenantcast_internal.is_sane_date(p_day date) returns boolean
language sql immutable set search_path = ''
as $$ select p_day between date '1900-01-01' and date '2200-12-31' $$;
comment on function tenantcast_internal.is_sane_date(date) is 'True from 1900 to 2200: a CHECK for every day we store.';

-- One policy per action and role. A table that is not protected shows up in tenantcast_internal.lint().
create procedure tenantcast_internal.protect_table(
  p_table regclass,
  p_worker_actions text[],
  p_dashboard_columns text[] default '{}',
  p_system_actions text[] default '{}'
)
language plpgsql set search_path = ''
as $$
declare
  v_action text;
  v_own constant text := 'tenant_id = (select tenantcast_source.current_tenant())';
begin
  execute format('alter table %s enable row level security', p_table);
  execute format('alter table %s force row level security', p_table);
  -- Supabase grants new tables in public to its roles by default.
  execute format('revoke all on %s from public, anon, authenticated, service_role', p_table);
  foreach v_action in array p_worker_actions loop
    execute format('grant %s on %s to tenantcast_worker', v_action, p_table);
    execute format(
      'create policy %I on %s for %s to tenantcast_worker %s %s',
      format('Workers may %s rows of the tenant they work for', v_action), p_table, v_action,
      case when v_action <> 'insert' then format('using (%s)', v_own) end,
      case when v_action in ('insert', 'update') then format('with check (%s)', v_own) end
    );
  end loop;
  if cardinality(p_dashboard_columns) > 0 then
    execute format(
      'grant select (%s) on %s to authenticated',
      (select string_agg(quote_ident(c), ', ') from unnest(p_dashboard_columns) as c), p_table
    );
    execute format(
      'create policy %I on %s for select to authenticated using (%s)',
      'Signed-in users may read rows of the tenant in their token', p_table,
      'tenant_id = (select tenantcast_internal.claimed_tenant())'
    );
  end if;
  foreach v_action in array p_system_actions loop
    execute format('grant %s on %s to tenantcast_system', v_action, p_table);
    execute format(
      'create policy %I on %s for %s to tenantcast_system %s %s',
      format('The system role may %s the ledger of every tenant', v_action), p_table, v_action,
      case when v_action <> 'insert' then 'using (true)' end,
      case when v_action in ('insert', 'update') then 'with check (true)' end
    );
  end loop;
end;
$$;
comment on procedure tenantcast_internal.protect_table(regclass, text[], text[], text[]) is
  'Turns row security on, forces it, and makes the grants and policies of one table that has a tenant_id.';

create procedure tenantcast_internal.expose_function(p_function regprocedure)
language plpgsql set search_path = ''
as $$
declare
  v_role text;
begin
  select substr(c, length('role=') + 1) into v_role
  from pg_catalog.pg_proc as f, unnest(f.proconfig) as c
  where f.oid = p_function and c like 'role=%';
  if v_role is null or v_role not in ('tenantcast_worker', 'tenantcast_system') then
    raise exception 'function % must be made with "set role"', p_function;
  end if;
  execute format('revoke all on function %s from public, anon, authenticated', p_function);
  execute format('grant execute on function %s to service_role, %I', p_function, v_role);
end;
$$;
comment on procedure tenantcast_internal.expose_function(regprocedure) is
  'Lets the service key, and logins that are members of the role that the function switches to, call it; nobody else.';

revoke all on all routines in schema tenantcast_internal, tenantcast_source from public;
grant execute on function tenantcast_source.current_tenant() to tenantcast_worker, tenantcast_system;
grant execute on function tenantcast_internal.claimed_tenant() to authenticated;
grant execute on function
  tenantcast_internal.enter_tenant(uuid), tenantcast_internal.iso(timestamptz),
  tenantcast_internal.is_number(jsonb), tenantcast_internal.is_sane_date(date)
to tenantcast_worker, tenantcast_system;

notify pgrst, 'reload schema';
