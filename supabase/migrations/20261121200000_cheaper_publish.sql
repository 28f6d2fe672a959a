-- Publishing costs less: what is the same for every day is taken out of the result once, not once per day (each time
-- the whole model would be copied out of it), and a model, which is compressed already, is stored as it comes.
set lock_timeout = '5s';

alter table public.ml_models alter column model_data set storage external;
alter table public.ml_input_snapshot alter column payload set storage external;

create or replace function tenantcast_internal.publish_predictions(
  p_run_id uuid, p_fence bigint, p_result jsonb, out predictions int, out anomalies int, out deleted int
)
language plpgsql set search_path = ''
as $$
declare
  v_tenant_id uuid := tenantcast_source.current_tenant();
  v_as_of date := (p_result ->> 'as_of')::date;
  v_confidence double precision := (p_result ->> 'confidence_score')::double precision;
  v_model_type text := p_result #>> '{model,model_type}';
  v_model_version text := p_result #>> '{model,model_version}';
begin
  insert into public.ml_predictions as p (
    tenant_id, prediction_date, prediction_type, predicted_values, confidence_score, run_id, fence, model_type,
    model_version
  )
  select
    v_tenant_id, (n.value ->> 'date')::date, n.prediction_type, n.value - 'date', v_confidence, p_run_id, p_fence,
    v_model_type, v_model_version
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
