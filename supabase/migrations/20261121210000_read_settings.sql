-- What many tenants say for themselves, in one call: who agreed to the global model is asked of thousands every week.
set lock_timeout = '5s';

create function public.ml_read_settings(p_tenant_ids jsonb) returns jsonb
language plpgsql stable security invoker set search_path = '' set role = tenantcast_worker
as $$
declare
  v_tenant_id uuid;
  v_settings jsonb;
  v_found jsonb[] := '{}';
begin
  if jsonb_typeof(p_tenant_ids) is distinct from 'array' or jsonb_array_length(p_tenant_ids) > 1000 then
    raise exception 'p_tenant_ids must be an array of at most 1000 ids' using errcode = 'TC001';
  end if;
  -- One after another, each in its own scope: no statement sees the rows of two tenants, as everywhere.
  for v_tenant_id in
    select distinct e.value::uuid from jsonb_array_elements_text(p_tenant_ids) as e order by 1
  loop
    perform tenantcast_internal.enter_tenant(v_tenant_id);
    select s.settings into v_settings from public.tenant_ml_settings as s where s.tenant_id = v_tenant_id;
    if found then
      v_found := array_append(v_found, jsonb_build_object('tenant_id', v_tenant_id, 'settings', v_settings));
    end if;
  end loop;
  perform set_config('app.tenant_id', '', true);
  return to_jsonb(v_found);
end;
$$;
comment on function public.ml_read_settings(jsonb) is
  'The overrides of those of the tenants that have any, by id; each is read in its own scope.';

call tenantcast_internal.expose_function('public.ml_read_settings(jsonb)');

notify pgrst, 'reload schema';
