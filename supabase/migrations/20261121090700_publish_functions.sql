-- Publish: everything that one run says about one tenant, in one fenced transaction. All of it, or none.
set lock_timeout = '5s';

-- p_tenant_id is entered already; each step is one function, so that publish itself reads as a list.

create function tenantcast_internal.check_result(p_result jsonb) returns void
language plpgsql set search_path = ''
as $$
declare
  v_as_of date;
  v_bad text;
begin
  if jsonb_typeof(p_result) is distinct from 'object'
     or jsonb_typeof(p_result -> 'predictions') is distinct from 'array'
     or jsonb_typeof(p_result -> 'anomalies') is distinct from 'array'
     or jsonb_typeof(p_result -> 'model') is distinct from 'object'
     or jsonb_typeof(p_result -> 'report') is distinct from 'object'
     or jsonb_typeof(coalesce(p_result -> 'notifications', '[]')) is distinct from 'array' then
    raise exception 'p_result lacks a part or holds it in another shape' using errcode = 'TC001';
  end if;
  v_as_of := (p_result ->> 'as_of')::date;
  if v_as_of is null or jsonb_array_length(p_result -> 'predictions') not between 1 and 366 then
    raise exception 'p_result needs as_of and 1 to 366 predictions' using errcode = 'TC001';
  end if;
  select string_agg(distinct d.kind, ', ') into v_bad
  from (
    select 'prediction' as kind, (e ->> 'date')::date as day from jsonb_array_elements(p_result -> 'predictions') as e
    union all
    select 'anomaly', (e ->> 'date')::date from jsonb_array_elements(p_result -> 'anomalies') as e
  ) as d
  where d.day is null or (d.day > v_as_of) is distinct from (d.kind = 'prediction');
  if v_bad is not null then
    raise exception 'p_result has a % on the wrong side of as_of', v_bad using errcode = 'TC001';
  end if;
end;
$$;
comment on function tenantcast_internal.check_result(jsonb) is
  'Refuses a result that lacks a part, forecasts a day that is over or flags one that is not.';

create function tenantcast_internal.publish_model(p_run_id uuid, p_fence bigint, p_model jsonb) returns void
language plpgsql set search_path = ''
as $$
declare
  v_tenant_id uuid := tenantcast_source.current_tenant();
begin
  update public.ml_models as m set stage = 'archived'
  where m.tenant_id = v_tenant_id and m.model_type = p_model ->> 'model_type'
    and m.stage = 'production' and m.model_version <> p_model ->> 'model_version';
  insert into public.ml_models as m (
    tenant_id, model_type, model_version, model_data, hyperparameters, training_metrics, accuracy, last_trained, stage,
    run_id, fence
  ) values (
    v_tenant_id, p_model ->> 'model_type', p_model ->> 'model_version',
    -- A lost model costs one refit, a refused publish costs the forecast: an artefact over 20 MB is left out.
    case when octet_length(p_model ->> 'model_data') <= 20971520 then p_model ->> 'model_data' end,
    coalesce(p_model -> 'hyperparameters', '{}'), coalesce(p_model -> 'training_metrics', '{}'),
    (p_model ->> 'accuracy')::double precision, clock_timestamp(), 'production', p_run_id, p_fence
  )
  on conflict (tenant_id, model_type, model_version) do update set
    model_data = excluded.model_data, hyperparameters = excluded.hyperparameters,
    training_metrics = excluded.training_metrics, accuracy = excluded.accuracy, last_trained = excluded.last_trained,
    stage = excluded.stage, run_id = excluded.run_id, fence = excluded.fence
  where m.fence <= excluded.fence;
end;
$$;
comment on function tenantcast_internal.publish_model(uuid, bigint, jsonb) is
  'Stores the new version as production and archives the one before.';

create function tenantcast_internal.publish_predictions(
  p_run_id uuid, p_fence bigint, p_result jsonb, out predictions int, out anomalies int, out deleted int
)
language plpgsql set search_path = ''
as $$
declare
  v_tenant_id uuid := tenantcast_source.current_tenant();
  v_as_of date := (p_result ->> 'as_of')::date;
begin
  insert into public.ml_predictions as p (
    tenant_id, prediction_date, prediction_type, predicted_values, confidence_score, run_id, fence, model_type,
    model_version
  )
  select
    v_tenant_id, (n.value ->> 'date')::date, n.prediction_type, n.value - 'date',
    (p_result ->> 'confidence_score')::double precision, p_run_id, p_fence,
    p_result -> 'model' ->> 'model_type', p_result -> 'model' ->> 'model_version'
  from (
    select 'sales_forecast' as prediction_type, e as value from jsonb_array_elements(p_result -> 'predictions') as e
    union all
    select 'sales_anomaly', e from jsonb_array_elements(p_result -> 'anomalies') as e
  ) as n
  on conflict (tenant_id, prediction_date, prediction_type) do update set
    predicted_values = excluded.predicted_values, confidence_score = excluded.confidence_score,
    run_id = excluded.run_id, fence = excluded.fence, model_type = excluded.model_type,
    model_version = excluded.model_version, updated_at = clock_timestamp()
  where p.fence <= excluded.fence;
  -- What this run did not write and has not passed goes; so do days of the last 90 that are no longer flagged. Days
  -- that have passed keep the last forecast made for them.
  delete from public.ml_predictions as p
  where p.tenant_id = v_tenant_id and p.fence < p_fence and (
    p.prediction_date > v_as_of or (p.prediction_type = 'sales_anomaly' and p.prediction_date > v_as_of - 90)
  );
  get diagnostics deleted = row_count;
  predictions := jsonb_array_length(p_result -> 'predictions');
  anomalies := jsonb_array_length(p_result -> 'anomalies');
end;
$$;
comment on function tenantcast_internal.publish_predictions(uuid, bigint, jsonb) is
  'Writes forecast and flagged days; deletes future days and flags that this run did not write.';

create function tenantcast_internal.publish_record(p_run_id uuid, p_fence bigint, p_result jsonb) returns void
language plpgsql set search_path = ''
as $$
declare
  v_tenant_id uuid := tenantcast_source.current_tenant();
begin
  insert into public.ml_input_snapshot (tenant_id, input_hash, as_of, payload, code_version)
  values (
    v_tenant_id, p_result ->> 'input_hash', (p_result ->> 'as_of')::date, p_result ->> 'snapshot',
    p_result ->> 'code_version'
  )
  on conflict (tenant_id, input_hash) do nothing;
  insert into public.ml_forecast_ledger (
    tenant_id, issued_on, run_id, as_of, fence, code_version, model_type, model_version, input_hash, output_hash,
    forecast, confidence_score
  ) values (
    v_tenant_id, (clock_timestamp() at time zone 'UTC')::date, p_run_id, (p_result ->> 'as_of')::date, p_fence,
    p_result ->> 'code_version', p_result -> 'model' ->> 'model_type', p_result -> 'model' ->> 'model_version',
    p_result ->> 'input_hash', p_result ->> 'output_hash', p_result -> 'predictions',
    (p_result ->> 'confidence_score')::double precision
  );
  insert into public.ml_active_forecast as a (
    tenant_id, run_id, fence, as_of, input_hash, output_hash, model_type, model_version
  ) values (
    v_tenant_id, p_run_id, p_fence, (p_result ->> 'as_of')::date, p_result ->> 'input_hash',
    p_result ->> 'output_hash', p_result -> 'model' ->> 'model_type', p_result -> 'model' ->> 'model_version'
  )
  on conflict (tenant_id) do update set
    run_id = excluded.run_id, fence = excluded.fence, as_of = excluded.as_of, input_hash = excluded.input_hash,
    output_hash = excluded.output_hash, model_type = excluded.model_type, model_version = excluded.model_version,
    published_at = clock_timestamp();
end;
$$;
comment on function tenantcast_internal.publish_record(uuid, bigint, jsonb) is
  'The input snapshot, the ledger row and the pointer to the current forecast.';

create function tenantcast_internal.publish_notifications(p_notifications jsonb) returns void
language plpgsql set search_path = ''
as $$
begin
  insert into public.notifications (tenant_id, dedupe_key, kind, title, body, payload)
  select
    tenantcast_source.current_tenant(), n ->> 'dedupe_key', n ->> 'kind', n ->> 'title',
    coalesce(n ->> 'body', ''), coalesce(n -> 'payload', '{}')
  from jsonb_array_elements(coalesce(p_notifications, '[]')) as n
  on conflict (tenant_id, dedupe_key) do nothing;
end;
$$;
comment on function tenantcast_internal.publish_notifications(jsonb) is
  'Outbox rows [{dedupe_key, kind, title, body, payload}]; a key that was used already says nothing again.';

create function public.ml_publish_item(p_tenant_id uuid, p_run_id uuid, p_fence bigint, p_result jsonb) returns jsonb
language plpgsql security invoker set search_path = '' set role = tenantcast_worker set statement_timeout = '120s'
as $$
declare
  v_item public.ml_run_item;
  v_current public.ml_active_forecast;
  v_wrote record;
  v_answer jsonb;
begin
  perform tenantcast_internal.enter_tenant(p_tenant_id);
  select * into v_item from public.ml_run_item as i
  where i.tenant_id = p_tenant_id and i.run_id = p_run_id and i.fence = p_fence for update;
  if v_item.state = 'done' and v_item.answer is not null and v_item.output_hash = p_result ->> 'output_hash' then
    return v_item.answer;  -- a repeat: the commit succeeded and its answer was lost
  elsif v_item.state is distinct from 'running' then
    return jsonb_build_object('outcome', 'lost');
  end if;
  perform tenantcast_internal.check_result(p_result);
  select * into v_current from public.ml_active_forecast as a where a.tenant_id = p_tenant_id for update;
  if v_current.fence > p_fence then
    return jsonb_build_object('outcome', 'lost');
  elsif v_current.as_of > (p_result ->> 'as_of')::date then
    return jsonb_build_object('outcome', 'older', 'as_of', v_current.as_of);
  end if;

  perform tenantcast_internal.publish_model(p_run_id, p_fence, p_result -> 'model');
  v_wrote := tenantcast_internal.publish_predictions(p_run_id, p_fence, p_result);
  perform tenantcast_internal.publish_record(p_run_id, p_fence, p_result);
  perform tenantcast_internal.publish_notifications(p_result -> 'notifications');
  v_answer := jsonb_build_object(
    'outcome', 'published', 'predictions', v_wrote.predictions, 'anomalies', v_wrote.anomalies,
    'deleted', v_wrote.deleted
  );
  update public.ml_run_item as i set
    state = 'done', stage = 'published', finished_at = clock_timestamp(), lease_until = null, answer = v_answer,
    report = p_result -> 'report', as_of = (p_result ->> 'as_of')::date, input_hash = p_result ->> 'input_hash',
    output_hash = p_result ->> 'output_hash', code_version = p_result ->> 'code_version',
    model_version = p_result -> 'model' ->> 'model_version', parent_model_version = v_current.model_version,
    source_rows = case when jsonb_typeof(p_result #> '{report,quality,rows}') = 'number'
                       then (p_result #> '{report,quality,rows}')::numeric::bigint else i.source_rows end
  where i.tenant_id = p_tenant_id and i.run_id = p_run_id;
  return v_answer;
end;
$$;
comment on function public.ml_publish_item(uuid, uuid, bigint, jsonb) is
  'One transaction, fenced: model version, forecast, flagged days, snapshot, ledger row, pointer, outbox, item done.';

revoke all on all routines in schema tenantcast_internal from public;
grant execute on function
  tenantcast_internal.check_result(jsonb), tenantcast_internal.publish_model(uuid, bigint, jsonb),
  tenantcast_internal.publish_predictions(uuid, bigint, jsonb),
  tenantcast_internal.publish_record(uuid, bigint, jsonb), tenantcast_internal.publish_notifications(jsonb)
to tenantcast_worker;
call tenantcast_internal.expose_function('public.ml_publish_item(uuid, uuid, bigint, jsonb)');

notify pgrst, 'reload schema';
