-- Reading and writing one tenant's forecast, models, settings, calendar and features.
set lock_timeout = '5s';

create function tenantcast_internal.current_forecast() returns jsonb
language sql stable set search_path = ''
as $$
  select jsonb_build_object(
    'input_hash', a.input_hash, 'output_hash', a.output_hash, 'as_of', a.as_of, 'run_id', a.run_id,
    'model_version', a.model_version
  )
  from public.ml_active_forecast as a
  where a.tenant_id = (select tenantcast_source.current_tenant())
$$;
comment on function tenantcast_internal.current_forecast() is 'Which forecast the current tenant has, or null.';

create function public.ml_read_forecast(p_tenant_id uuid) returns jsonb
language plpgsql security invoker set search_path = '' set role = tenantcast_worker
as $$
declare
  v_current public.ml_active_forecast;
  v_predictions jsonb;
begin
  perform tenantcast_internal.enter_tenant(p_tenant_id);
  select * into v_current from public.ml_active_forecast as a where a.tenant_id = p_tenant_id;
  select jsonb_agg(
    jsonb_build_object(
      'prediction_date', p.prediction_date, 'prediction_type', p.prediction_type,
      'predicted_values', p.predicted_values, 'confidence_score', p.confidence_score, 'run_id', p.run_id,
      'model_version', p.model_version
    ) order by p.prediction_type, p.prediction_date
  ) into v_predictions
  from public.ml_predictions as p
  where p.tenant_id = p_tenant_id and (
    (p.prediction_type = 'sales_forecast' and p.prediction_date > v_current.as_of)
    or (p.prediction_type = 'sales_anomaly' and p.prediction_date > v_current.as_of - 90
        and (p.predicted_values -> 'is_anomaly')::boolean)
  );
  return jsonb_build_object(
    'tenant', tenantcast_internal.read_tenant(p_tenant_id),
    'predictions', coalesce(v_predictions, '[]'),
    'current', tenantcast_internal.current_forecast(),
    'report', (select i.report from public.ml_run_item as i
               where i.tenant_id = p_tenant_id and i.run_id = v_current.run_id)
  );
end;
$$;
comment on function public.ml_read_forecast(uuid) is
  'The current forecast and the flagged days of the 90 before it, by type and date, and the report of its run.';

create function tenantcast_internal.model_json(p_model public.ml_models) returns jsonb
language sql stable set search_path = ''
as $$
  select jsonb_build_object(
    'model_type', p_model.model_type, 'model_version', p_model.model_version,
    'hyperparameters', p_model.hyperparameters, 'training_metrics', p_model.training_metrics,
    'accuracy', p_model.accuracy, 'last_trained', tenantcast_internal.iso(p_model.last_trained),
    'stage', p_model.stage
  )
$$;
comment on function tenantcast_internal.model_json(public.ml_models) is 'A model version as JSON, without its artefact.';

create function public.ml_read_model(p_tenant_id uuid, p_model_type text, p_model_version text default null)
returns jsonb
language plpgsql security invoker set search_path = '' set role = tenantcast_worker
as $$
begin
  perform tenantcast_internal.enter_tenant(p_tenant_id);
  return (
    select tenantcast_internal.model_json(m) || jsonb_build_object('model_data', m.model_data)
    from public.ml_models as m
    where m.tenant_id = p_tenant_id and m.model_type = p_model_type
      and (m.model_version = p_model_version or (p_model_version is null and m.stage = 'production'))
  );
end;
$$;
comment on function public.ml_read_model(uuid, text, text) is 'One model version, or the production one; null if none.';

create function public.ml_list_models(p_tenant_id uuid) returns jsonb
language plpgsql security invoker set search_path = '' set role = tenantcast_worker
as $$
begin
  perform tenantcast_internal.enter_tenant(p_tenant_id);
  return (
    select coalesce(jsonb_agg(
      tenantcast_internal.model_json(m) || jsonb_build_object('bytes', coalesce(octet_length(m.model_data), 0))
      order by m.last_trained desc, m.fence desc
    ), '[]')
    from public.ml_models as m where m.tenant_id = p_tenant_id
  );
end;
$$;
comment on function public.ml_list_models(uuid) is 'All model versions without their artefacts, newest first.';

create function public.ml_activate_model(p_tenant_id uuid, p_model_type text, p_model_version text) returns jsonb
language plpgsql security invoker set search_path = '' set role = tenantcast_worker
as $$
declare
  v_previous text;
begin
  perform tenantcast_internal.enter_tenant(p_tenant_id);
  -- Locks every version of the type, in one order: two activations queue up here.
  perform 1 from public.ml_models as m
  where m.tenant_id = p_tenant_id and m.model_type = p_model_type order by m.model_version for update;
  select m.model_version into v_previous from public.ml_models as m
  where m.tenant_id = p_tenant_id and m.model_type = p_model_type and m.stage = 'production';
  if not exists (
    select 1 from public.ml_models as m
    where m.tenant_id = p_tenant_id and m.model_type = p_model_type and m.model_version = p_model_version
  ) then
    return jsonb_build_object('outcome', 'unknown', 'previous', v_previous);
  end if;
  update public.ml_models as m set stage = 'archived'
  where m.tenant_id = p_tenant_id and m.model_type = p_model_type and m.stage = 'production';
  update public.ml_models as m set stage = 'production'
  where m.tenant_id = p_tenant_id and m.model_type = p_model_type and m.model_version = p_model_version;
  return jsonb_build_object('outcome', 'active', 'previous', v_previous);
end;
$$;
comment on function public.ml_activate_model(uuid, text, text) is 'Makes a stored version the production one.';

create function public.ml_write_settings(p_tenant_id uuid, p_settings jsonb) returns jsonb
language plpgsql security invoker set search_path = '' set role = tenantcast_worker
as $$
begin
  perform tenantcast_internal.enter_tenant(p_tenant_id);
  if p_settings is null or jsonb_typeof(p_settings) = 'null' then
    delete from public.tenant_ml_settings as s where s.tenant_id = p_tenant_id;
  elsif jsonb_typeof(p_settings) <> 'object' or octet_length(p_settings::text) > 16384 then
    raise exception 'settings must be an object of at most 16384 bytes' using errcode = 'TC001';
  else
    insert into public.tenant_ml_settings (tenant_id, settings) values (p_tenant_id, p_settings)
    on conflict (tenant_id) do update set settings = excluded.settings, updated_at = clock_timestamp();
  end if;
  return jsonb_build_object('outcome', 'written');
end;
$$;
comment on function public.ml_write_settings(uuid, jsonb) is 'Replaces the tenant''s overrides; null removes them.';

create function public.ml_write_calendar(p_tenant_id uuid, p_days jsonb, p_replace boolean) returns jsonb
language plpgsql security invoker set search_path = '' set role = tenantcast_worker
as $$
declare
  v_written int;
begin
  perform tenantcast_internal.enter_tenant(p_tenant_id);
  if jsonb_typeof(p_days) is distinct from 'array' then
    raise exception 'p_days must be an array' using errcode = 'TC001';
  end if;
  if p_replace then
    delete from public.tenant_calendar as c where c.tenant_id = p_tenant_id;
  end if;
  insert into public.tenant_calendar (tenant_id, day, kind, name)
  select distinct on (day, kind) p_tenant_id, (d.value ->> 'day')::date as day, d.value ->> 'kind' as kind,
    coalesce(d.value ->> 'name', '')
  from jsonb_array_elements(p_days) with ordinality as d (value, n)
  order by day, kind, d.n desc
  on conflict (tenant_id, day, kind) do update set name = excluded.name;
  get diagnostics v_written = row_count;
  return jsonb_build_object('written', v_written);
end;
$$;
comment on function public.ml_write_calendar(uuid, jsonb, boolean) is
  'Adds or renames known days; with p_replace, the given days are all there are.';

create function public.ml_read_snapshot(p_tenant_id uuid, p_input_hash text) returns jsonb
language plpgsql security invoker set search_path = '' set role = tenantcast_worker
as $$
begin
  perform tenantcast_internal.enter_tenant(p_tenant_id);
  return (
    select jsonb_build_object('payload', s.payload, 'as_of', s.as_of)
    from public.ml_input_snapshot as s where s.tenant_id = p_tenant_id and s.input_hash = p_input_hash
  );
end;
$$;
comment on function public.ml_read_snapshot(uuid, text) is 'What a forecast was made from, or null.';

create function public.ml_write_features(p_tenant_id uuid, p_rows jsonb) returns jsonb
language plpgsql security invoker set search_path = '' set role = tenantcast_worker
as $$
declare
  v_written int;
begin
  perform tenantcast_internal.enter_tenant(p_tenant_id);
  if jsonb_typeof(p_rows) is distinct from 'array' then
    raise exception 'p_rows must be an array' using errcode = 'TC001';
  end if;
  insert into public.ml_features (tenant_id, feature_date, feature_type, feature_values)
  select distinct on (feature_date, feature_type) p_tenant_id, (r.value ->> 'feature_date')::date as feature_date,
    r.value ->> 'feature_type' as feature_type, r.value -> 'feature_values'
  from jsonb_array_elements(p_rows) with ordinality as r (value, n)
  order by feature_date, feature_type, r.n desc
  on conflict (tenant_id, feature_date, feature_type) do update set
    feature_values = excluded.feature_values, updated_at = clock_timestamp();
  get diagnostics v_written = row_count;
  return jsonb_build_object('written', v_written);
end;
$$;
comment on function public.ml_write_features(uuid, jsonb) is 'Upserts features; of rows with one key the last one counts.';

revoke all on all routines in schema tenantcast_internal from public;
grant execute on function
  tenantcast_internal.current_forecast(), tenantcast_internal.model_json(public.ml_models)
to tenantcast_worker;
call tenantcast_internal.expose_function('public.ml_read_forecast(uuid)');
call tenantcast_internal.expose_function('public.ml_read_model(uuid, text, text)');
call tenantcast_internal.expose_function('public.ml_list_models(uuid)');
call tenantcast_internal.expose_function('public.ml_activate_model(uuid, text, text)');
call tenantcast_internal.expose_function('public.ml_write_settings(uuid, jsonb)');
call tenantcast_internal.expose_function('public.ml_write_calendar(uuid, jsonb, boolean)');
call tenantcast_internal.expose_function('public.ml_read_snapshot(uuid, text)');
call tenantcast_internal.expose_function('public.ml_write_features(uuid, jsonb)');

notify pgrst, 'reload schema';
