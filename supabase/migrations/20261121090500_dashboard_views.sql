-- What a product's dashboard reads, as the signed-in user and under that user's row security.
set lock_timeout = '5s';

create view public.v_sales_forecast with (security_invoker = true, security_barrier = true) as
select
  p.tenant_id, p.prediction_date as day,
  (p.predicted_values -> 'yhat')::double precision as yhat,
  (p.predicted_values -> 'yhat_lower')::double precision as yhat_lower,
  (p.predicted_values -> 'yhat_upper')::double precision as yhat_upper,
  p.confidence_score, p.prediction_date > a.as_of as is_ahead, a.as_of, p.model_version
from public.ml_predictions as p
left join public.ml_active_forecast as a using (tenant_id)
where p.prediction_type = 'sales_forecast';
comment on view public.v_sales_forecast is 'The forecast per business day; is_ahead parts the future from past days.';

create view public.v_sales_anomalies with (security_invoker = true, security_barrier = true) as
select
  p.tenant_id, p.prediction_date as day,
  (p.predicted_values -> 'y')::double precision as y,
  (p.predicted_values -> 'score')::double precision as score
from public.ml_predictions as p
where p.prediction_type = 'sales_anomaly' and (p.predicted_values -> 'is_anomaly')::boolean;
comment on view public.v_sales_anomalies is 'Days whose sales were far from what the model expected.';

create view public.v_forecast_status with (security_invoker = true, security_barrier = true) as
select
  a.tenant_id, a.as_of, a.published_at, a.model_version, m.accuracy, m.training_metrics,
  i.state as last_state, i.reason as last_reason, i.finished_at as last_finished_at
from public.ml_active_forecast as a
join public.ml_models as m using (tenant_id, model_type, model_version)
left join lateral (
  select li.state, li.reason, li.finished_at from public.ml_run_item as li
  where li.tenant_id = a.tenant_id order by li.created_at desc limit 1
) as i on true;
comment on view public.v_forecast_status is 'How fresh and how good the current forecast is, and how the last run ended.';

revoke all on public.v_sales_forecast, public.v_sales_anomalies, public.v_forecast_status
  from public, anon, authenticated, service_role;
grant select on public.v_sales_forecast, public.v_sales_anomalies, public.v_forecast_status to authenticated;

notify pgrst, 'reload schema';
