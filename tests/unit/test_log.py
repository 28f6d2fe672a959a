import json
import logging
import subprocess
import sys

import pytest
import structlog

from app.config.settings import Settings
from app.log import HIDDEN, Redactor, configure_logging, secrets_of

CANARY = "canary-7f3a9"
KEY = "Y2FuYXJ5LWtleS1jYW5hcnkta2V5LWNhbmFyeS1rZXk="


def _settings(**values) -> Settings:
    return Settings(
        database_url=f"postgresql://worker:{CANARY}%40x@db.example:5432/shop",
        supabase_service_role_key=f"sb_{CANARY}_role",
        ml_artifact_keys=f"k1:{KEY}",
        **values,
    )


@pytest.fixture(autouse=True)
def _logging_as_before():
    root, handlers, level = logging.getLogger(), logging.getLogger().handlers[:], logging.getLogger().level
    yield
    root.handlers[:] = handlers
    root.setLevel(level)
    structlog.reset_defaults()
    structlog.contextvars.clear_contextvars()


def test_an_event_is_one_line_of_json_on_standard_error(capsys):
    configure_logging(_settings())

    with structlog.contextvars.bound_contextvars(run="r1", tenant="t1"):
        structlog.get_logger().info("stage_done", stage="compute", seconds=0.25)

    out, err = capsys.readouterr()
    event = json.loads(err)
    assert out == ""
    assert (event["event"], event["level"]) == ("stage_done", "info")
    assert (event["run"], event["tenant"], event["stage"], event["seconds"]) == ("r1", "t1", "compute", 0.25)
    assert event["timestamp"].endswith("Z")


def test_events_below_the_level_are_dropped(capsys):
    configure_logging(_settings(log_level="WARNING"))

    structlog.get_logger().info("quiet")
    logging.getLogger("some.library").info("quiet too")
    structlog.get_logger().warning("loud")

    assert [json.loads(line)["event"] for line in capsys.readouterr().err.splitlines()] == ["loud"]


def test_the_console_format_is_for_people(capsys):
    configure_logging(_settings(log_format="console"))

    structlog.get_logger().info("stage_done", stage="compute")

    err = capsys.readouterr().err
    assert "stage_done" in err
    assert not err.startswith("{")


def test_libraries_log_the_same_way_and_chatty_ones_are_quiet(capsys):
    configure_logging(_settings())

    logging.getLogger("cmdstanpy").info("chain [1] start processing")
    logging.getLogger("httpx").info("HTTP Request: POST")
    logging.getLogger("some.library").warning("slow by %d seconds", 7)

    lines = capsys.readouterr().err.splitlines()
    assert [json.loads(line)["event"] for line in lines] == ["slow by 7 seconds"]


@pytest.mark.parametrize("log_format", ["json", "console"])
def test_no_secret_is_ever_written(capsys, log_format):
    settings = _settings(log_format=log_format)
    configure_logging(settings)
    log = structlog.get_logger()
    url = settings.database_url.get_secret_value()  # type: ignore[union-attr]

    log.info("connecting", to=f"address {url}", settings=settings)
    log.info("nested", detail={"headers": {"apikey": CANARY, "list": [KEY, (url,)]}})
    log.info("key as a name", **{KEY: 1})
    logging.getLogger("lib").error("failed for %s with %s", url, KEY)
    try:
        int(f"cannot reach {url} with {KEY}")
    except ValueError:
        log.exception("broken", password="hunter2hunter2", token="abc")

    err = capsys.readouterr().err
    for secret in (CANARY, KEY, "hunter2", '"abc"'):
        assert secret not in err
    assert HIDDEN in err


@pytest.mark.parametrize(
    ("text", "secret"),
    [
        ("redis://user:s3cr3tpass@host:6379/0", "s3cr3tpass"),
        ("postgres://:only-password@host/db", "only-password"),
        ("Authorization: Bearer abcdefgh12345678", "abcdefgh12345678"),
        ("jwt eyJhbGciOiJIUzI1NiJ9.eyJyb2xlIjoic2VydmljZSJ9.c2lnbmF0dXJl", "c2lnbmF0dXJl"),
        ("key sb_secret_AbCdEf-123", "AbCdEf"),
        ("host=x password=opensesame dbname=y", "opensesame"),
    ],
)
def test_secrets_that_are_not_ours_are_known_by_their_shape(text, secret):
    hidden = Redactor([]).text(text)

    assert secret not in hidden
    assert HIDDEN in hidden


def test_ordinary_text_is_left_alone():
    text = "tenant 3f1c: 28 days from 2026-11-20, see https://example.org/a:b and 12:30"

    assert Redactor(secrets_of(Settings())).text(text) == text


def test_a_process_that_logs_its_settings_shows_asterisks():
    code = (
        "from app.config.settings import Settings; from app.log import configure_logging; import structlog;"
        "s = Settings(); configure_logging(s); structlog.get_logger().info('start', settings=repr(s)); print(s)"
    )
    env = {"DATABASE_URL": f"postgresql://u:{CANARY}@h/d", "ML_ARTIFACT_KEYS": f"k1:{KEY}", "PYTHONPATH": "."}

    done = subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, text=True, check=True)

    assert CANARY not in done.stdout + done.stderr
    assert KEY not in done.stdout + done.stderr
    assert "**********" in done.stdout
