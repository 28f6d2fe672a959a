-- Removes everything that tenantcast's migrations made: its tables with all forecasts, functions, views and schemas.
-- The product's own tables are not touched, the example's (negocios, productos, ventas) neither.
--   tenantcast db uninstall --yes        or        psql "$DATABASE_URL" -1 -f uninstall.sql
set lock_timeout = '5s';

do $$
declare
  v_name text;
begin
  -- Every function in public that switches to a role of ours is ours, the example's import included.
  for v_name in
    select f.oid::regprocedure::text
    from pg_catalog.pg_proc as f
    where f.pronamespace = 'public'::regnamespace
      and (f.proconfig && array[
             'role=tenantcast_worker', 'role=tenantcast_system', 'role=tenantcast_maintenance'
           ]
           or f.proname = 'example_import_sales')
  loop
    execute format('drop function %s', v_name);
  end loop;
end;
$$;

drop function if exists public.mark_notifications_read(uuid[]);
drop view if exists
  public.v_sales_forecast, public.v_sales_totals, public.v_sales_anomalies, public.v_forecast_status;
-- They take a row of a table, and the tables' checks call other helpers: neither could go first.
drop function if exists tenantcast_internal.is_over_limit(public.notification_deliveries, int);
drop function if exists
  tenantcast_internal.run_json(public.ml_run), tenantcast_internal.model_json(public.ml_models),
  tenantcast_internal.claimed(public.ml_run_item);
-- Not "cascade": a view of the product's that reads our tables stops the uninstall instead of vanishing.
drop table if exists
  public.notification_deliveries, public.notification_channels, public.notification_ticks,
  public.ml_active_forecast, public.ml_forecast_ledger, public.ml_predictions, public.ml_input_snapshot,
  public.ml_models, public.ml_run_item, public.ml_run, public.ml_features, public.ml_quarantine,
  public.tenant_ml_settings, public.tenant_calendar, public.notifications, public.business_notification_config;
drop sequence if exists public.ml_fence_seq;
drop schema if exists tenantcast_source cascade;
drop schema if exists tenantcast_internal cascade;

do $$
declare
  v_role text;
begin
  foreach v_role in array array['tenantcast_worker', 'tenantcast_system', 'tenantcast_maintenance'] loop
    if exists (select 1 from pg_catalog.pg_roles where rolname = v_role) then
      begin
        execute format('revoke all on schema public from %I', v_role);
        execute format('drop role %I', v_role);
      exception when dependent_objects_still_exist or insufficient_privilege then
        -- Another database of this cluster uses it, or the login may not drop roles.
        raise notice 'role % stays', v_role;
      end;
    end if;
  end loop;
end;
$$;

notify pgrst, 'reload schema';
