-- A forecast on demand may carry the active model forward: then its publish names the version and stores no new one.
set lock_timeout = '5s';

create or replace function tenantcast_internal.publish_model(p_run_id uuid, p_fence bigint, p_model jsonb) returns void
language plpgsql set search_path = ''
as $$
declare
  v_tenant_id uuid := tenantcast_source.current_tenant();
begin
  if p_model -> 'reused' = 'true' then
    -- Nothing was estimated, so age, run and artefact of the version stay. Someone may have rolled back meanwhile:
    -- a forecast of a model that is no longer the active one must not appear; the next attempt takes the active one.
    perform 1 from public.ml_models as m
    where m.tenant_id = v_tenant_id and m.model_type = p_model ->> 'model_type'
      and m.model_version = p_model ->> 'model_version' and m.stage = 'production'
    for update;
    if not found then
      -- Not serialization_failure: PostgREST would repeat the transaction by itself, for ever.
      raise exception 'the model that was carried forward is no longer the active one'
        using errcode = 'lock_not_available';
    end if;
    return;
  end if;
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
  'Stores the new version as production and archives the one before; {"reused": true} names the production one again.';

notify pgrst, 'reload schema';
