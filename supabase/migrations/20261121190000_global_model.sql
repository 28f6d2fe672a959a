-- The global model is a version in ml_models of a scope that is no tenant; this publishes it with its item, at once.
set lock_timeout = '5s';

create function public.ml_publish_model(
  p_tenant_id uuid, p_run_id uuid, p_fence bigint, p_model jsonb, p_report jsonb
) returns jsonb
language plpgsql security invoker set search_path = '' set role = tenantcast_worker set statement_timeout = '120s'
as $$
declare
  v_item public.ml_run_item;
  v_answer jsonb := jsonb_build_object('outcome', 'published');
begin
  perform tenantcast_internal.enter_tenant(p_tenant_id);
  select * into v_item from public.ml_run_item as i
  where i.tenant_id = p_tenant_id and i.run_id = p_run_id and i.fence = p_fence for update;
  if v_item.state = 'done' and v_item.answer is not null and v_item.model_version = p_model ->> 'model_version' then
    return v_item.answer;  -- a repeat: the commit succeeded and its answer was lost
  elsif v_item.state is distinct from 'running' then
    return jsonb_build_object('outcome', 'lost');
  end if;
  if jsonb_typeof(p_model) is distinct from 'object' or jsonb_typeof(p_report) is distinct from 'object'
     or p_model -> 'reused' = 'true' or p_model ->> 'model_version' is null then
    raise exception 'p_model and p_report must be objects, and the model a version' using errcode = 'TC001';
  end if;
  perform tenantcast_internal.publish_model(p_run_id, p_fence, p_model);
  update public.ml_run_item as i set
    state = 'done', stage = 'published', finished_at = clock_timestamp(), lease_until = null, answer = v_answer,
    report = p_report, model_version = p_model ->> 'model_version'
  where i.tenant_id = p_tenant_id and i.run_id = p_run_id;
  return v_answer;
end;
$$;
comment on function public.ml_publish_model(uuid, uuid, bigint, jsonb, jsonb) is
  'One transaction, fenced: a model version without a forecast, the production one from now on, and its item done.';

call tenantcast_internal.expose_function('public.ml_publish_model(uuid, uuid, bigint, jsonb, jsonb)');

notify pgrst, 'reload schema';
