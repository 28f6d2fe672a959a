-- What dashboards and the feature refresh read back: one kind of feature of one tenant.
set lock_timeout = '5s';

create function public.ml_read_features(p_tenant_id uuid, p_feature_type text, p_from date default null) returns jsonb
language plpgsql security invoker set search_path = '' set role = tenantcast_worker
as $$
begin
  perform tenantcast_internal.enter_tenant(p_tenant_id);
  return (
    select coalesce(jsonb_agg(
      jsonb_build_object('feature_date', f.feature_date, 'feature_values', f.feature_values) order by f.feature_date
    ), '[]')
    from public.ml_features as f
    where f.tenant_id = p_tenant_id and f.feature_type = p_feature_type
      and (p_from is null or f.feature_date >= p_from)
  );
end;
$$;
comment on function public.ml_read_features(uuid, text, date) is 'Features of one type by day, from a day on.';
call tenantcast_internal.expose_function('public.ml_read_features(uuid, text, date)');

notify pgrst, 'reload schema';
