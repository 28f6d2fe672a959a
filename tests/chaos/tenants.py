"""Many small shops, made by the database itself: a year of weekday patterns, noise, closed Sundays, no two alike."""

from tests.chaos.backends import Database

LONGEST_DAYS = 130
BYSTANDERS = 5  # tenants with a forecast that no fault run is about: nothing of theirs may change

_SHOPS = """
insert into negocios (id, nombre, zona_horaria, idioma, moneda)
select md5('chaos ' || n)::uuid, 'shop ' || n, 'UTC', 'en', 'EUR' from generate_series(1, %s) as n
"""
# Hashes instead of random(): the same shops whatever the seed, so that a storm replays on the same sales.
_SALES = """
insert into ventas (negocio_id, id, fecha, total, cantidad)
select
  md5('chaos ' || n)::uuid, 's' || back, (current_date - back) + time '12:00',
  round((40 + n %% 17 * 10 + extract(isodow from current_date - back) * (5 + n %% 5)
         + abs(hashtext(n || '/' || back)) %% 2000 / 100.0)::numeric, 2), 1
from generate_series(1, %s) as n, generate_series(1, 60 + %s) as back
where back <= 60 + abs(hashtext('days ' || n)) %% %s
  and (n %% 3 > 0 or extract(isodow from current_date - back) < 7)
"""
_REAL_CANDIDATES = """
insert into tenant_ml_settings (tenant_id, settings)
select tenant_id, '{"model_candidates": ["snaive", "weekday_mean", "sarimax", "prophet", "xgboost"]}'::jsonb
from unnest(%s::uuid[]) as tenant_id
"""


def add_shops(database: Database, count: int) -> list[str]:
    """Make ``count`` shops with 60 to 130 days of sales; gives their ids, sorted."""
    spread = LONGEST_DAYS - 60
    database.ask(_SHOPS, count)
    database.ask(_SALES, count, spread, spread)
    database.ask("analyze")
    return [str(row[0]) for row in database.ask("select id from negocios where nombre like %s order by id", "shop %")]


def add_empty_shops(database: Database, count: int) -> list[str]:
    """Make ``count`` shops that have not sold anything yet; gives their ids, sorted."""
    made = database.ask(
        "insert into negocios (id, nombre, zona_horaria) select md5('empty ' || n)::uuid, 'empty ' || n, 'UTC'"
        " from generate_series(1, %s) as n on conflict (id) do update set nombre = excluded.nombre returning id",
        count,
    )
    return sorted(str(row[0]) for row in made)


def give_real_candidates(database: Database, tenants: list[str]) -> None:
    """These tenants are forecast by every real candidate instead of the fast ones."""
    database.ask(_REAL_CANDIDATES, tenants)
