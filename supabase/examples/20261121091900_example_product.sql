-- An example product, as a small shop system in Spanish would have it, and the three source views that read it.
-- For the demo, the tests, and whoever has a CSV file but no product: `tenantcast db migrate --examples`.
--
-- To adapt tenantcast to your own product write the three "create or replace view" below for your own tables; nothing
-- else has to change. The sales table needs an index that starts with (tenant, time).
set lock_timeout = '5s';

-- A product's own tables are left alone: this stops before anything is made when they are others than ours.
do $$
declare
  v_problem text;
begin
  select format('%s.%s is %s', w.table_name, w.column_name, coalesce(format_type(a.atttypid, -1), 'missing'))
  into v_problem
  from (values
    ('negocios', 'id', 'uuid'), ('negocios', 'nombre', 'text'), ('negocios', 'zona_horaria', 'text'),
    ('negocios', 'hora_corte', 'integer'), ('negocios', 'pais', 'text'), ('negocios', 'idioma', 'text'),
    ('negocios', 'moneda', 'text'), ('negocios', 'activo', 'boolean'),
    ('productos', 'negocio_id', 'uuid'), ('productos', 'id', 'text'), ('productos', 'nombre', 'text'),
    ('productos', 'stock', 'numeric'),
    ('ventas', 'negocio_id', 'uuid'), ('ventas', 'id', 'text'), ('ventas', 'fecha', 'timestamp with time zone'),
    ('ventas', 'total', 'numeric'), ('ventas', 'cantidad', 'numeric'), ('ventas', 'producto_id', 'text')
  ) as w(table_name, column_name, type_name)
  join pg_catalog.pg_class as c on c.oid = to_regclass('public.' || w.table_name)
  left join pg_catalog.pg_attribute as a
    on a.attrelid = c.oid and a.attname = w.column_name and not a.attisdropped
  where a.attname is null or format_type(a.atttypid, -1) <> w.type_name
  limit 1;
  if v_problem is not null then
    raise exception 'This database has tables of its own by the names of the example product (%).', v_problem
      using errcode = 'duplicate_table',
            hint = 'Leave the example out and replace the three views in schema tenantcast_source instead.';
  end if;
end;
$$;

create table if not exists public.negocios (
  id uuid primary key,
  nombre text not null,
  zona_horaria text not null default 'UTC',
  hora_corte int not null default 0 check (hora_corte between 0 and 23),
  pais text not null default '',
  idioma text not null default 'es',
  moneda text not null default '',
  activo boolean not null default true,
  creado_en timestamptz not null default now()
);
comment on table public.negocios is 'Example product: the businesses that use it. hora_corte ends the business day.';

create table if not exists public.productos (
  negocio_id uuid not null references public.negocios (id),
  id text not null,
  nombre text not null,
  stock numeric,
  primary key (negocio_id, id)
);
comment on table public.productos is 'Example product: what a business sells, and how much of it is left.';

create table if not exists public.ventas (
  negocio_id uuid not null references public.negocios (id),
  id text not null,
  fecha timestamptz not null,
  total numeric not null,
  cantidad numeric,
  producto_id text,
  creado_en timestamptz not null default now(),
  primary key (negocio_id, id)
);
comment on table public.ventas is 'Example product: one row per sale or line of a ticket; total < 0 is a refund.';
create index if not exists ventas_por_fecha on public.ventas (negocio_id, fecha, id);

alter table public.negocios enable row level security;
alter table public.productos enable row level security;
alter table public.ventas enable row level security;

do $$
declare
  v_table text;
  v_key text;
begin
  for v_table, v_key in values ('negocios', 'id'), ('productos', 'negocio_id'), ('ventas', 'negocio_id') loop
    execute format('revoke all on public.%I from public, anon', v_table);
    execute format('grant select on public.%I to authenticated', v_table);
    execute format('grant select, insert, update, delete on public.%I to service_role', v_table);
    execute format('drop policy if exists "Signed-in users see their own business" on public.%I', v_table);
    execute format(
      'create policy "Signed-in users see their own business" on public.%I for select to authenticated using (%I = %s)',
      v_table, v_key,
      '(select (nullif(current_setting(''request.jwt.claims'', true), '''')::jsonb ->> ''tenant_id'')::uuid)'
    );
    -- Supabase's service_role passes by row security; on a plain Postgres it needs a policy.
    execute format('drop policy if exists "The service may do everything" on public.%I', v_table);
    execute format(
      'create policy "The service may do everything" on public.%I to service_role using (true) with check (true)', v_table
    );
  end loop;
end;
$$;

create or replace view tenantcast_source.sales_source as
select
  v.negocio_id as tenant_id, v.id as sale_id, v.fecha as sold_at,
  v.total as amount, v.cantidad as quantity, v.producto_id as product_id
from public.ventas as v
where v.negocio_id = (select tenantcast_source.current_tenant());

create or replace view tenantcast_source.product_source as
select p.negocio_id as tenant_id, p.id as product_id, p.nombre as name, p.stock
from public.productos as p
where p.negocio_id = (select tenantcast_source.current_tenant());

create or replace view tenantcast_source.tenant_source as
select
  n.id as tenant_id, n.nombre as name, n.zona_horaria as time_zone, n.hora_corte as cutoff_hour,
  n.pais as country, n.idioma as language, n.moneda as currency, n.activo as active
from public.negocios as n
where n.id = (select tenantcast_source.current_tenant()) or current_user = 'tenantcast_system';

create or replace function public.example_import_sales(
  p_tenant_id uuid, p_tenant jsonb, p_rows jsonb, p_dry_run boolean default false
) returns jsonb
language plpgsql security invoker set search_path = ''
as $$
declare
  v_inserted int;
begin
  if p_dry_run then
    select count(*) into v_inserted
    from jsonb_to_recordset(p_rows) as r(sale_id text)
    where not exists (select 1 from public.ventas as v where v.negocio_id = p_tenant_id and v.id = r.sale_id);
    return jsonb_build_object('inserted', v_inserted, 'known', jsonb_array_length(p_rows) - v_inserted);
  end if;
  -- Keys that are absent keep what is there.
  insert into public.negocios as n (id, nombre, zona_horaria, hora_corte, pais, idioma, moneda, activo)
  select
    p_tenant_id, coalesce(t.name, p_tenant_id::text), coalesce(t.time_zone, 'UTC'), coalesce(t.cutoff_hour, 0),
    coalesce(t.country, ''), coalesce(t.language, 'es'), coalesce(t.currency, ''), coalesce(t.active, true)
  from jsonb_to_record(p_tenant) as t(
    name text, time_zone text, cutoff_hour int, country text, language text, currency text, active boolean
  )
  on conflict (id) do update set
    nombre = coalesce(p_tenant ->> 'name', n.nombre),
    zona_horaria = coalesce(p_tenant ->> 'time_zone', n.zona_horaria),
    hora_corte = coalesce((p_tenant ->> 'cutoff_hour')::int, n.hora_corte),
    pais = coalesce(p_tenant ->> 'country', n.pais),
    idioma = coalesce(p_tenant ->> 'language', n.idioma),
    moneda = coalesce(p_tenant ->> 'currency', n.moneda),
    activo = coalesce((p_tenant ->> 'active')::boolean, n.activo)
  where p_tenant <> '{}';

  -- The file names products by id alone; name and stock are the product's to fill in.
  insert into public.productos (negocio_id, id, nombre)
  select distinct p_tenant_id, r.product_id, r.product_id
  from jsonb_to_recordset(p_rows) as r(product_id text)
  where r.product_id is not null
  order by r.product_id
  on conflict do nothing;

  insert into public.ventas (negocio_id, id, fecha, total, cantidad, producto_id)
  select p_tenant_id, r.sale_id, r.sold_at, r.amount, r.quantity, r.product_id
  from jsonb_to_recordset(p_rows) as r(
    sale_id text, sold_at timestamptz, amount numeric, quantity numeric, product_id text
  )
  on conflict do nothing;
  get diagnostics v_inserted = row_count;
  return jsonb_build_object('inserted', v_inserted, 'known', jsonb_array_length(p_rows) - v_inserted);
end;
$$;
comment on function public.example_import_sales(uuid, jsonb, jsonb, boolean) is
  'What `tenantcast import` calls: makes or updates the business, adds the sales that it does not have yet; a dry run '
  'only counts them.';
revoke all on function public.example_import_sales(uuid, jsonb, jsonb, boolean) from public, anon, authenticated;
grant execute on function public.example_import_sales(uuid, jsonb, jsonb, boolean) to service_role;

notify pgrst, 'reload schema';
