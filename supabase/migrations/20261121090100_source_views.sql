-- The three views that read the product's tables, empty until a product (or the example) replaces them.
--
-- Replace them with "create or replace view", which keeps owner and grants, and keep the filters: the views run with
-- their owner's rights, so the filter is all that parts one tenant from another.
set lock_timeout = '5s';

create view tenantcast_source.sales_source as
select
  null::uuid as tenant_id, null::text as sale_id, null::timestamptz as sold_at,
  null::numeric as amount, null::numeric as quantity, null::text as product_id
where false and null::uuid = (select tenantcast_source.current_tenant());
comment on view tenantcast_source.sales_source is
  'Sales of the current tenant, one row each: amount in the tenant''s currency (negative for a refund), sold_at an '
  'instant. Keep: where tenant_id = (select tenantcast_source.current_tenant()).';

create view tenantcast_source.product_source as
select null::uuid as tenant_id, null::text as product_id, null::text as name, null::numeric as stock
where false and null::uuid = (select tenantcast_source.current_tenant());
comment on view tenantcast_source.product_source is
  'Products of the current tenant. Keep: where tenant_id = (select tenantcast_source.current_tenant()).';

create view tenantcast_source.tenant_source as
select
  null::uuid as tenant_id, null::text as name, null::text as time_zone, null::int as cutoff_hour,
  null::text as country, null::text as language, null::text as currency, null::boolean as active
where false and (
  null::uuid = (select tenantcast_source.current_tenant()) or current_user = 'tenantcast_system'
);
comment on view tenantcast_source.tenant_source is
  'The current tenant; every tenant for the system role, which lists them. Keep: where tenant_id = '
  '(select tenantcast_source.current_tenant()) or current_user = ''tenantcast_system''.';

revoke all on all tables in schema tenantcast_source from public, anon, authenticated, service_role;
grant select on tenantcast_source.sales_source, tenantcast_source.product_source to tenantcast_worker;
grant select on tenantcast_source.tenant_source to tenantcast_worker, tenantcast_system;

create function tenantcast_internal.read_tenant(p_tenant_id uuid) returns jsonb
language plpgsql stable set search_path = ''
as $$
begin
  return (
    select jsonb_build_object(
      'tenant_id', t.tenant_id, 'name', t.name, 'time_zone', t.time_zone, 'cutoff_hour', t.cutoff_hour,
      'country', t.country, 'language', t.language, 'currency', t.currency, 'active', t.active
    )
    from tenantcast_source.tenant_source as t
    where t.tenant_id = p_tenant_id
    limit 1
  );
end;
$$;
comment on function tenantcast_internal.read_tenant(uuid) is 'One row of tenant_source as JSON, or null.';

-- The one definer function: it counts as the owner of the views, so that `doctor` sees when the worker sees less.
create function tenantcast_internal.count_sales(p_tenant_id uuid, p_at_most bigint default null) returns bigint
language plpgsql security definer set search_path = ''
as $$
declare
  v_before text := coalesce(current_setting('app.tenant_id', true), '');
  v_rows bigint;
begin
  perform set_config('app.tenant_id', p_tenant_id::text, true);
  select count(*) into v_rows
  from (select 1 from tenantcast_source.sales_source where tenant_id = p_tenant_id limit p_at_most) as counted;
  perform set_config('app.tenant_id', v_before, true);
  return v_rows;
end;
$$;
comment on function tenantcast_internal.count_sales(uuid, bigint) is
  'Rows of one tenant as the views'' owner sees them, counting no further than p_at_most: a number, never a row.';

revoke all on function tenantcast_internal.read_tenant(uuid), tenantcast_internal.count_sales(uuid, bigint) from public;
grant execute on function tenantcast_internal.read_tenant(uuid) to tenantcast_worker, tenantcast_system;
grant execute on function tenantcast_internal.count_sales(uuid, bigint) to tenantcast_system;

notify pgrst, 'reload schema';
