-- Does the installation still hold what it promises? Asked of the catalogue, so that nothing has to be remembered.
set lock_timeout = '5s';

create function tenantcast_internal.our_tables(p_everything boolean) returns setof regclass
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
      where a.grantee in ('tenantcast_worker'::regrole, 'tenantcast_system'::regrole)
    )
  )
$$;
comment on function tenantcast_internal.our_tables(boolean) is 'The tables that the lint looks at.';

create function tenantcast_internal.lint_tables(p_everything boolean) returns table (problem text, object text)
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
  union all
  select 'policy "' || p.polname || '" lets ' || r.role || ' see every tenant', p.polrelid::regclass::text
  from pg_catalog.pg_policy as p
  join tenantcast_internal.our_tables(p_everything) as o on o = p.polrelid
  cross join lateral (
    select case when oid = 0 then 'public' else oid::regrole::text end as role from unnest(p.polroles) as oid
  ) as r
  where r.role <> 'tenantcast_system' and (
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
comment on function tenantcast_internal.lint_tables(boolean) is 'Tables that do not keep tenants apart.';

create function tenantcast_internal.lint_readers() returns table (problem text, object text)
language sql stable set search_path = ''
as $$
  -- Views over our tables run as their reader; materialised ones cannot, so that nobody from outside may read them.
  select distinct
    case v.relkind
      when 'm' then 'materialised view that signed-in users may read' else 'view is not security_invoker'
    end,
    v.oid::regclass::text
  from pg_catalog.pg_rewrite as w
  join pg_catalog.pg_class as v on v.oid = w.ev_class
  join pg_catalog.pg_depend as d on d.classid = 'pg_rewrite'::regclass and d.objid = w.oid
  join tenantcast_internal.our_tables(false) as o on d.refclassid = 'pg_class'::regclass and d.refobjid = o
  where (v.relkind = 'v' and not coalesce(v.reloptions, '{}') @> array['security_invoker=true'])
     or (v.relkind = 'm' and (pg_catalog.has_table_privilege('anon', v.oid, 'select')
                              or pg_catalog.has_table_privilege('authenticated', v.oid, 'select')))
  union all
  select 'source view is granted to ' || coalesce(r.rolname, 'public'), c.oid::regclass::text
  from pg_catalog.pg_class as c
  cross join lateral pg_catalog.aclexplode(c.relacl) as a
  left join pg_catalog.pg_roles as r on r.oid = a.grantee
  where c.relnamespace = 'tenantcast_source'::regnamespace and c.relkind = 'v' and a.grantee <> c.relowner
    and coalesce(r.rolname, 'public') not in ('tenantcast_worker', 'tenantcast_system')
  union all
  select 'the worker may not read this source view', c.oid::regclass::text
  from pg_catalog.pg_class as c
  where c.relnamespace = 'tenantcast_source'::regnamespace and c.relkind = 'v'
    and not pg_catalog.has_table_privilege('tenantcast_worker', c.oid, 'select')
  union all
  select 'source view runs as its reader, who may not see the product''s tables', c.oid::regclass::text
  from pg_catalog.pg_class as c
  where c.relnamespace = 'tenantcast_source'::regnamespace and c.relkind = 'v'
    and coalesce(c.reloptions, '{}') @> array['security_invoker=true']
  union all
  select 'source view lacks its tenant filter', c.oid::regclass::text
  from pg_catalog.pg_class as c
  where c.relnamespace = 'tenantcast_source'::regnamespace and c.relkind = 'v'
    and pg_catalog.pg_get_viewdef(c.oid) not like '%current_tenant()%'
$$;
comment on function tenantcast_internal.lint_readers() is 'Views through which a tenant could see another one.';

create function tenantcast_internal.lint_functions() returns table (problem text, object text)
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
      'role=tenantcast_worker', 'role=tenantcast_system'
    ]
    union all
    select 'function has no fixed search_path' where not coalesce(f.proconfig, '{}') @> array['search_path=""']
  ) as l
  where f.pronamespace = 'public'::regnamespace and f.proname like 'ml\_%'
  union all
  select 'function that runs as its owner may be called by ' || who, f.oid::regprocedure::text
  from pg_catalog.pg_proc as f
  cross join unnest(array['anon', 'authenticated', 'service_role', 'tenantcast_worker']) as who
  where f.pronamespace in ('tenantcast_internal'::regnamespace, 'tenantcast_source'::regnamespace) and f.prosecdef
    and pg_catalog.has_function_privilege(who, f.oid, 'execute')
    -- service_role is a member of tenantcast_system: what it inherits from there is meant.
    and not (who = 'service_role' and pg_catalog.pg_has_role(who, 'tenantcast_system', 'usage')
             and pg_catalog.has_function_privilege('tenantcast_system', f.oid, 'execute'))
$$;
comment on function tenantcast_internal.lint_functions() is 'Functions of ours that could be called, or could act, as another.';

create function tenantcast_internal.lint_roles() returns table (problem text, object text)
language sql stable set search_path = ''
as $$
  select 'role may ignore row security or log in', r.rolname::text
  from pg_catalog.pg_roles as r
  where r.rolname in ('tenantcast_worker', 'tenantcast_system')
    and (r.rolsuper or r.rolbypassrls or r.rolcanlogin or r.rolcreaterole)
  union all
  select 'role is a member of ' || m.roleid::regrole::text, m.member::regrole::text
  from pg_catalog.pg_auth_members as m
  where m.member in ('tenantcast_worker'::regrole, 'tenantcast_system'::regrole)
$$;
comment on function tenantcast_internal.lint_roles() is 'Powers that the worker and system roles must not have.';

create function tenantcast_internal.lint(p_everything boolean default false)
returns table (problem text, object text)
language sql stable set search_path = ''
as $$
  select * from tenantcast_internal.lint_tables(p_everything)
  union select * from tenantcast_internal.lint_readers()
  union select * from tenantcast_internal.lint_functions()
  union select * from tenantcast_internal.lint_roles()
  order by 1, 2
$$;
comment on function tenantcast_internal.lint(boolean) is
  'Every way in which this database does not keep tenants apart; no row is what it should return. With p_everything, '
  'tables of the product count as ours (for a database that has none).';

-- The history table belongs to the migrating role (or to the Supabase CLI): read as owner, versions and names alone.
create function tenantcast_internal.applied_migrations() returns jsonb
language plpgsql stable security definer set search_path = ''
as $$
begin
  if to_regclass('supabase_migrations.schema_migrations') is null then
    return '[]';
  end if;
  return (
    select coalesce(jsonb_agg(jsonb_build_object('version', m.version, 'name', m.name) order by m.version), '[]')
    from supabase_migrations.schema_migrations as m
  );
end;
$$;
comment on function tenantcast_internal.applied_migrations() is 'Versions in the Supabase CLI''s history table.';

create function tenantcast_internal.roles_json() returns jsonb
language sql stable set search_path = ''
as $$
  select jsonb_object_agg(r.rolname, jsonb_build_object(
    'superuser', r.rolsuper, 'bypass_row_security', r.rolbypassrls, 'can_log_in', r.rolcanlogin
  ))
  from pg_catalog.pg_roles as r
  where r.rolname in ('anon', 'authenticated', 'service_role', 'tenantcast_worker', 'tenantcast_system')
$$;
comment on function tenantcast_internal.roles_json() is 'The roles that our grants and policies name, and their powers.';

-- The second definer function that reads sales (the first is count_sales): a number and a sum, never a row.
create function tenantcast_internal.owner_sales(p_tenant_id uuid) returns jsonb
language plpgsql security definer set search_path = ''
as $$
declare
  v_before text := coalesce(current_setting('app.tenant_id', true), '');
  v_sales jsonb;
begin
  perform set_config('app.tenant_id', p_tenant_id::text, true);
  select jsonb_build_object(
    'tenant_id', p_tenant_id, 'rows', count(*),
    'total', trim_scale(coalesce(sum(s.amount) filter (where tenantcast_internal.is_money(s.amount)), 0))::text
  ) into v_sales
  from tenantcast_source.sales_source as s
  where s.tenant_id = p_tenant_id;
  perform set_config('app.tenant_id', v_before, true);
  return v_sales;
end;
$$;
comment on function tenantcast_internal.owner_sales(uuid) is
  'Rows and exact sum of one tenant as the views'' owner sees them, to compare with what ml_check_sales sees.';

create function public.ml_check_installation() returns jsonb
language plpgsql security invoker set search_path = '' set role = tenantcast_system set statement_timeout = '120s'
as $$
begin
  return jsonb_build_object(
    'version', current_setting('server_version'),
    'migrations', tenantcast_internal.applied_migrations(),
    'lint', (
      select coalesce(jsonb_agg(jsonb_build_object('problem', l.problem, 'object', l.object)), '[]')
      from tenantcast_internal.lint() as l
    ),
    'roles', tenantcast_internal.roles_json(),
    'source_rows', (
      select coalesce(jsonb_agg(tenantcast_internal.owner_sales(t.tenant_id) order by t.tenant_id), '[]')
      from tenantcast_source.tenant_source as t
    )
  );
end;
$$;
comment on function public.ml_check_installation() is
  'Server version, applied migrations, catalogue lint, roles, and each tenant''s rows and sum as the views'' owner sees them.';

revoke all on all routines in schema tenantcast_internal from public;
grant execute on function
  tenantcast_internal.our_tables(boolean), tenantcast_internal.lint_tables(boolean),
  tenantcast_internal.lint_readers(), tenantcast_internal.lint_functions(), tenantcast_internal.lint_roles(),
  tenantcast_internal.lint(boolean), tenantcast_internal.applied_migrations(), tenantcast_internal.roles_json(),
  tenantcast_internal.owner_sales(uuid)
to tenantcast_system;
call tenantcast_internal.expose_function('public.ml_check_installation()');

notify pgrst, 'reload schema';
