-- Messages that a signed-in user has read. The only thing that dashboards may write.
set lock_timeout = '5s';

-- The policy says which rows, the grant which column: text, state and deliveries of a message stay out of reach.
grant update (read_at) on public.notifications to authenticated;
create policy "Signed-in users may mark rows of the tenant in their token" on public.notifications
  for update to authenticated
  using (tenant_id = (select tenantcast_internal.claimed_tenant()))
  with check (tenant_id = (select tenantcast_internal.claimed_tenant()));

-- Not called ml_…: those are the worker's, and the lint sees to it that no signed-in user may call one.
create function public.mark_notifications_read(p_notification_ids uuid[]) returns jsonb
language plpgsql security invoker set search_path = ''
as $$
declare
  v_read int;
begin
  if p_notification_ids is null or cardinality(p_notification_ids) > 1000 then
    raise exception 'p_notification_ids must be at most 1000 ids' using errcode = 'TC001';
  end if;
  update public.notifications as n set read_at = clock_timestamp()
  where n.notification_id = any (p_notification_ids) and n.read_at is null;
  get diagnostics v_read = row_count;
  return jsonb_build_object('read', v_read);
end;
$$;
comment on function public.mark_notifications_read(uuid[]) is
  'Signed-in users mark messages of the tenant in their token as read; gives how many were not yet.';
revoke all on function public.mark_notifications_read(uuid[]) from public, anon, service_role;
grant execute on function public.mark_notifications_read(uuid[]) to authenticated;

notify pgrst, 'reload schema';
