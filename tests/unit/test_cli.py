"""The command without a database: its tree, its output, its errors and exit codes."""

import json
import subprocess
import sys
from io import StringIO
from pathlib import Path

import pytest
import typer
from rich.console import Console

from app.cli import app, as_known, main, wants_json
from app.cli.intake import parse_columns
from app.cli.judging import check_target, read_countries
from app.cli.output import money, plain, print_error, print_json, progress_bar, table, waiting
from app.cli.overrides import parse_value
from app.errors import ConfigError, DatabaseUnavailable, InvalidFile, InvalidOverride, TenantcastError, UnknownTenant

ROOT = Path(__file__).resolve().parents[2]
HEAVY = ("numpy", "pandas", "scipy", "statsmodels", "sklearn", "prophet", "xgboost", "httpx", "psycopg",
         "supabase", "pydantic", "jinja2", "structlog")  # fmt: skip


def commands() -> list[tuple[str, object]]:
    """Every command of the tree with its path, for instance ("tenantcast db migrate", …)."""

    def walk(command, path: str):
        for name, below in getattr(command, "commands", {}).items():
            yield from walk(below, f"{path} {name}")
        if not hasattr(command, "commands"):
            yield path, command

    return list(walk(typer.main.get_command(app), "tenantcast"))


def printed(shown: object) -> str:
    buffer = StringIO()
    Console(file=buffer, width=100, markup=False, highlight=False).print(shown)
    return buffer.getvalue()


@pytest.mark.parametrize(("path", "command"), commands(), ids=[path for path, _ in commands()])
def test_every_command_has_json_and_a_help_with_its_own_example(path: str, command) -> None:
    options = {option for parameter in command.params for option in parameter.opts}

    assert "--json" in options
    assert command.help.strip().endswith(".")
    assert f"$ {path}" in command.epilog
    assert all(parameter.help for parameter in command.params if getattr(parameter, "hidden", False) is False)


def test_the_command_has_what_the_design_names() -> None:
    paths = {path.removeprefix("tenantcast ") for path, _ in commands()}

    assert paths >= {
        "demo", "import", "run", "retrain", "predict", "report", "backtest", "models list", "models activate",
        "runs list", "runs show", "db migrate", "db status", "db url", "db uninstall", "db stop", "calendar import",
        "settings show", "settings set", "settings unset", "doctor",
    }  # fmt: skip


def test_help_imports_nothing_heavy() -> None:
    code = (
        "import sys\n"
        "from app.cli import main\n"
        "code = main(['--help'])\n"
        f"print([name for name in {HEAVY!r} if name in sys.modules], code, file=sys.stderr)\n"
    )

    out = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)

    assert out.stderr.strip() == "[] 0"
    assert "Exit codes" in out.stdout


def test_a_wrong_option_ends_with_two_and_names_the_help(capsys: pytest.CaptureFixture[str]) -> None:
    code = main(["retrain", "--jbos", "2"])

    shown = capsys.readouterr()
    assert code == 2
    assert shown.out == ""
    assert "--jbos" in shown.err
    assert "tenantcast retrain --help" in shown.err


def test_a_wrong_option_with_json_is_one_document_on_stdout(capsys: pytest.CaptureFixture[str]) -> None:
    code = main(["retrain", "--jobs", "none", "--json"])

    shown = capsys.readouterr()
    document = json.loads(shown.out)
    assert code == document["exit_code"] == 2
    assert document["error"]["code"] == "config"
    assert "--jobs" in document["error"]["message"]
    assert shown.err == ""


def test_a_refused_environment_is_told_by_name_without_a_traceback(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ML_LEASE_SECONDS", "soon")

    code = main(["predict", "bakery"])

    shown = capsys.readouterr().err
    assert code == 2
    assert "ML_LEASE_SECONDS" in shown
    assert "Traceback" not in shown


def test_a_group_without_a_command_prints_its_help_and_ends_with_two(capsys: pytest.CaptureFixture[str]) -> None:
    code = main(["runs"])

    shown = capsys.readouterr()
    assert code == 2
    assert "show" in shown.out + shown.err
    assert "bug" not in shown.err


def test_errors_keep_their_exit_codes() -> None:
    assert as_known(DatabaseUnavailable()).exit_code == 4
    assert as_known(UnknownTenant()).exit_code == 3
    assert as_known(ConfigError()).exit_code == 2
    assert as_known(RuntimeError("x")).exit_code == 1


def test_an_unexpected_error_is_called_a_bug_and_does_not_repeat_its_text() -> None:
    known = as_known(RuntimeError("postgresql://admin:hunter2@db"))

    assert "RuntimeError" in known.message
    assert "hunter2" not in str(known)
    assert "--debug" in known.next_step


def test_debug_lets_the_traceback_through(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ML_LEASE_SECONDS", "soon")

    with pytest.raises(ConfigError):
        main(["--debug", "predict", "bakery"])


def test_ctrl_c_says_so_and_ends_as_shells_expect(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(self: object) -> bool:
        raise KeyboardInterrupt

    monkeypatch.setattr("app.db.embedded.EmbeddedPostgres.stop", interrupted)

    assert main(["db", "stop"]) == 130
    assert capsys.readouterr().err.strip() == "Stopped. What was finished is kept."


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["predict", "bakery"], False),
        (["predict", "bakery", "--json"], True),
        (["predict", "--json", "bakery"], True),
        (["backtest", "a.csv", "--json"], True),
        (["backtest", "a.csv", "--json", "-"], True),
        (["backtest", "--json", "--horizon", "7"], True),
        (["backtest", "a.csv", "--json", "out.json"], False),
    ],
)
def test_stdout_holds_json_when_it_was_asked_to(arguments: list[str], expected: bool) -> None:
    assert wants_json(arguments) is expected


def test_what_is_shown_while_waiting_is_never_read_as_markup(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")  # as at a terminal

    with waiting("Forecasting [/x] …"), progress_bar("Importing [/y]") as advance:
        advance(1, 2, "[/z]")

    assert "[/x]" in capsys.readouterr().err


def test_an_error_shows_message_and_next_step_without_reading_markup(capsys: pytest.CaptureFixture[str]) -> None:
    error = TenantcastError("No tenant '[red]x[/nope]'.", next_step="Import \x1b[31msome.")

    print_error(error, as_json=False)

    shown = capsys.readouterr().err
    assert "[red]x[/nope]" in shown
    assert "Next: Import" in shown
    assert "\x1b" not in shown


def test_json_never_holds_nan(capsys: pytest.CaptureFixture[str]) -> None:
    print_json({"a": float("nan"), "b": [float("inf"), 1.5], "c": (2,), 3: "é"})

    assert json.loads(capsys.readouterr().out) == {"a": None, "b": [None, 1.5], "c": [2], "3": "é"}


def test_cells_are_text_and_control_characters_are_replaced() -> None:
    shown = printed(table("T", ("name", "n"), [("[bold]a[/bold]\x1b[2J\x07", None)]))

    assert "[bold]a[/bold]\N{REPLACEMENT CHARACTER}[2J\N{REPLACEMENT CHARACTER}" in shown


def test_plain_keeps_letters_emoji_and_line_breaks() -> None:
    assert plain("Café 🍰\nü") == "Café 🍰\nü"


@pytest.mark.parametrize(
    ("amount", "text"), [(0.0, "0.00"), (12.345, "12.35"), (-999.9, "-999.90"), (1234567.8, "1,234,568")]
)
def test_money_shows_cents_below_a_thousand(amount: float, text: str) -> None:
    assert money(amount) == text


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("horizon_days=14", ("horizon_days", 14)),
        ("ML_HORIZON_DAYS=14", ("horizon_days", 14)),
        ("select_best=true", ("select_best", True)),
        ("holidays_country=DE-BY", ("holidays_country", "DE-BY")),
        ("model_candidates=naive,prophet", ("model_candidates", ["naive", "prophet"])),
        ("sarimax_order=1,0,1", ("sarimax_order", [1, 0, 1])),
        ('model_candidates=["naive"]', ("model_candidates", ["naive"])),
        ("anything=a=b", ("anything", "a=b")),
    ],
)
def test_a_setting_is_read_as_a_person_writes_it(text: str, expected: tuple[str, object]) -> None:
    assert parse_value(text) == expected


def test_a_setting_without_a_value_is_refused_with_an_example() -> None:
    with pytest.raises(InvalidOverride, match="horizon_days=14"):
        parse_value("horizon_days")


def test_columns_are_pairs() -> None:
    assert parse_columns(["total=amount", "fecha=created at"]) == {"total": "amount", "fecha": "created at"}
    with pytest.raises(ConfigError, match="FIELD=NAME"):
        parse_columns(["total"])


def test_a_backtest_never_writes_over_data(tmp_path: Path) -> None:
    data = tmp_path / "sales"

    for target in (str(tmp_path / "other.csv"), str(data), "x.csv.gz"):
        with pytest.raises(ConfigError, match="write over"):
            check_target(target, data)
    with pytest.raises(ConfigError, match="no directory"):
        check_target(str(tmp_path / "absent" / "out.json"), data)
    check_target(str(tmp_path / "out.json"), data)
    check_target("-", data)


def test_countries_come_by_series(tmp_path: Path) -> None:
    file = tmp_path / "countries.csv"
    file.write_text("country,unique_id\nDE-BY,a\n,b\n", encoding="utf-8")

    assert read_countries(file) == {"a": "DE-BY", "b": ""}


def test_a_countries_file_without_its_columns_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "countries.csv"
    file.write_text("id,land\n1,DE\n", encoding="utf-8")

    with pytest.raises(InvalidFile, match="unique_id,country"):
        read_countries(file)
    with pytest.raises(InvalidFile, match="cannot be read"):
        read_countries(tmp_path / "absent.csv")


def test_a_foreign_app_package_is_named_with_the_next_step(tmp_path: Path) -> None:
    (tmp_path / "app").mkdir()
    (tmp_path / "app" / "__init__.py").write_text('raise SystemExit("the foreign app was imported")\n')
    command = [sys.executable, "-m", "tenantcast", "db", "status"]

    text = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    document = subprocess.run([*command, "--json"], cwd=tmp_path, capture_output=True, text=True, check=False)

    assert text.returncode == document.returncode == 2
    assert str(tmp_path / "app" / "__init__.py") in text.stderr
    assert "PYTHONPATH" in text.stderr
    assert "foreign app was imported" not in text.stderr
    assert json.loads(document.stdout)["error"]["code"] == "wrong_app_package"


@pytest.mark.parametrize("kind", ["module", "folder"])
def test_an_app_that_is_a_module_or_a_bare_folder_is_not_ours(tmp_path: Path, kind: str) -> None:
    from importlib.machinery import PathFinder

    from tenantcast import is_ours

    if kind == "module":
        (tmp_path / "app.py").write_text("flask = 1\n")
    else:
        (tmp_path / "app").mkdir()

    assert not is_ours(PathFinder.find_spec("app", [str(tmp_path)]))
    assert not is_ours(None)
    assert is_ours(PathFinder.find_spec("app", [str(ROOT)]))
