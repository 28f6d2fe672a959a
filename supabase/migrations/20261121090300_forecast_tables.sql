-- What a publish writes: model versions, forecasts, the snapshot they were made from, the record of what was said when.
set lock_timeout = '5s';

create table public.ml_models (
  tenant_id uuid not null,
  model_type text not null check (model_type ~ '^[a-z][a-z0-9_]{0,59}$'),
  model_version text not null check (octet_length(model_version) between 1 and 200),
  model_data text check (octet_length(model_data) <= 20971520 and model_data ~ '^[A-Za-z0-9+/]*={0,2}$'),
  hyperparameters jsonb not null default '{}'
    check (jsonb_typeof(hyperparameters) = 'object' and octet_length(hyperparameters::text) <= 1048576),
  training_metrics jsonb not null default '{}'
    check (jsonb_typeof(training_metrics) = 'object' and octet_length(training_metrics::text) <= 1048576),
  accuracy double precision check (accuracy > '-infinity' and accuracy < 'infinity'),
  last_trained timestamptz not null default clock_timestamp(),
  stage text not null default 'production' check (stage in ('production', 'archived')),
  run_id uuid not null,
  fence bigint not null,
  primary key (tenant_id, model_type, model_version)
);
comment on table public.ml_models is
  'One row per publish: every member of the blend as one signed artefact (base64; null when it was over 20 MB).';
create unique index ml_models_one_production on public.ml_models (tenant_id, model_type) where stage = 'production';
create index ml_models_by_age on public.ml_models (tenant_id, last_trained desc);
call tenantcast_internal.protect_table(
  'public.ml_models', array['select', 'insert', 'update'],
  array['tenant_id', 'model_type', 'model_version', 'hyperparameters', 'training_metrics', 'accuracy', 'last_trained',
        'stage']
);

create table public.ml_input_snapshot (
  tenant_id uuid not null,
  input_hash text not null check (input_hash ~ '^[0-9a-f]{1,128}$'),
  as_of date not null check (tenantcast_internal.is_sane_date(as_of)),
  payload text not null check (octet_length(payload) <= 8388608 and payload ~ '^[A-Za-z0-9+/]*={0,2}$'),
  code_version text not null check (octet_length(code_version) between 1 and 100),
  created_at timestamptz not null default clock_timestamp(),
  primary key (tenant_id, input_hash)
);
comment on table public.ml_input_snapshot is
  'Series, calendar and settings that a forecast was made from: base64 of zlib of canonical JSON, to replay it.';
call tenantcast_internal.protect_table('public.ml_input_snapshot', array['select', 'insert']);

create table public.ml_predictions (
  tenant_id uuid not null,
  prediction_date date not null check (tenantcast_internal.is_sane_date(prediction_date)),
  prediction_type text not null check (prediction_type in ('sales_forecast', 'sales_anomaly')),
  predicted_values jsonb not null check (octet_length(predicted_values::text) <= 65536),
  confidence_score double precision check (confidence_score between 0 and 1),
  run_id uuid,
  fence bigint not null,
  model_type text not null,
  model_version text,
  updated_at timestamptz not null default clock_timestamp(),
  primary key (tenant_id, prediction_date, prediction_type),
  foreign key (run_id, tenant_id) references public.ml_run_item (run_id, tenant_id) on delete set null (run_id),
  foreign key (tenant_id, model_type, model_version) references public.ml_models on delete set null (model_version),
  constraint ml_predictions_forecast_is_numbers check (
    prediction_type <> 'sales_forecast' or (
      tenantcast_internal.is_number(predicted_values -> 'yhat')
      and tenantcast_internal.is_number(predicted_values -> 'yhat_lower')
      and tenantcast_internal.is_number(predicted_values -> 'yhat_upper')
    )
  ),
  constraint ml_predictions_band_holds_the_forecast check (
    case when prediction_type = 'sales_forecast'
              and jsonb_typeof(predicted_values -> 'yhat') = 'number'
              and jsonb_typeof(predicted_values -> 'yhat_lower') = 'number'
              and jsonb_typeof(predicted_values -> 'yhat_upper') = 'number'
    then (predicted_values -> 'yhat')::numeric
         between (predicted_values -> 'yhat_lower')::numeric and (predicted_values -> 'yhat_upper')::numeric
    else true end
  ),
  constraint ml_predictions_anomaly_is_numbers check (
    prediction_type <> 'sales_anomaly' or (
      tenantcast_internal.is_number(predicted_values -> 'y')
      and tenantcast_internal.is_number(predicted_values -> 'score')
      and coalesce(jsonb_typeof(predicted_values -> 'is_anomaly') = 'boolean', false)
    )
  )
);
comment on table public.ml_predictions is
  'The forecast (yhat, yhat_lower, yhat_upper) and the flagged days (y, score, is_anomaly), in the tenant''s currency '
  'per business day; days that have passed keep the last forecast made for them.';
create index ml_predictions_by_model on public.ml_predictions (tenant_id, model_type, model_version);
create index ml_predictions_by_run on public.ml_predictions (tenant_id, run_id);
call tenantcast_internal.protect_table(
  'public.ml_predictions', array['select', 'insert', 'update', 'delete'],
  array['tenant_id', 'prediction_date', 'prediction_type', 'predicted_values', 'confidence_score', 'run_id',
        'model_type', 'model_version', 'updated_at']
);

create table public.ml_active_forecast (
  tenant_id uuid primary key,
  run_id uuid not null,
  fence bigint not null,
  as_of date not null check (tenantcast_internal.is_sane_date(as_of)),
  input_hash text not null,
  output_hash text not null,
  model_type text not null,
  model_version text not null,
  published_at timestamptz not null default clock_timestamp(),
  foreign key (run_id, tenant_id) references public.ml_run_item (run_id, tenant_id),
  foreign key (tenant_id, input_hash) references public.ml_input_snapshot,
  foreign key (tenant_id, model_type, model_version) references public.ml_models
);
comment on table public.ml_active_forecast is
  'Which forecast a tenant has now. Its run, snapshot and model cannot be deleted while it points at them.';
create index ml_active_forecast_by_run on public.ml_active_forecast (tenant_id, run_id);
call tenantcast_internal.protect_table(
  'public.ml_active_forecast', array['select', 'insert', 'update'],
  array['tenant_id', 'run_id', 'as_of', 'model_type', 'model_version', 'published_at']
);

create table public.ml_forecast_ledger (
  tenant_id uuid not null,
  issued_on date not null check (tenantcast_internal.is_sane_date(issued_on)),
  run_id uuid not null,
  as_of date not null check (tenantcast_internal.is_sane_date(as_of)),
  fence bigint not null,
  code_version text not null,
  model_type text not null,
  model_version text not null,
  input_hash text not null,
  output_hash text not null check (output_hash ~ '^[0-9a-f]{1,128}$'),
  forecast jsonb not null check (jsonb_typeof(forecast) = 'array' and octet_length(forecast::text) <= 1048576),
  confidence_score double precision check (confidence_score between 0 and 1),
  primary key (tenant_id, issued_on, run_id),
  foreign key (tenant_id, input_hash) references public.ml_input_snapshot
);
comment on table public.ml_forecast_ledger is
  'Append-only: what was forecast on which day (UTC), from which origin (as_of), so that accuracy by lead time can be '
  'computed later.';
create index ml_forecast_ledger_by_input on public.ml_forecast_ledger (tenant_id, input_hash);
call tenantcast_internal.protect_table(
  'public.ml_forecast_ledger', array['select', 'insert'],
  array['tenant_id', 'issued_on', 'as_of', 'model_version', 'forecast', 'confidence_score']
);

notify pgrst, 'reload schema';
