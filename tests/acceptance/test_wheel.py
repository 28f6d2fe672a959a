"""The built wheel, installed where there is no checkout, in an empty directory."""

import subprocess
import sys
import sysconfig
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.acceptance.shell import Shell, private_shell

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Built as `make wheel` builds it, but beside the checkout's own dist/."""
    out = tmp_path_factory.mktemp("dist")
    build = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(out), str(ROOT)]
    done = subprocess.run(build, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return next(out.glob("*.whl"))


@pytest.fixture(scope="module")
def environment(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A fresh virtual environment with the wheel; dependencies come from this one's, so nothing is downloaded.

    A path in a .pth file is searched but its own .pth files are not, so the editable checkout stays out of sight.
    """
    place = tmp_path_factory.mktemp("environment")
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(place)], check=True)
    install = [sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check", "--python", _python(place)]
    subprocess.run([*install, "install", "--no-index", "--no-deps", str(wheel)], check=True)
    ours = {sysconfig.get_path("purelib"), sysconfig.get_path("platlib")}
    site = next(place.glob("lib/python*/site-packages"))
    (site / "dependencies.pth").write_text("\n".join(sorted(ours)) + "\n", encoding="utf-8")
    return place


@pytest.fixture
def shell(environment: Path) -> Iterator[Shell]:
    with private_shell((str(environment / "bin" / "tenantcast"),)) as opened:
        yield opened


def _python(place: Path) -> str:
    return str(place / "bin" / "python")


def test_the_wheel_brings_its_sql_and_its_templates_and_no_tests(wheel: Path) -> None:
    names = zipfile.ZipFile(wheel).namelist()
    migrations = sorted(path.name for path in (ROOT / "supabase" / "migrations").glob("*.sql"))
    templates = sorted(path.name for path in (ROOT / "app" / "services" / "report" / "templates").iterdir())

    assert sorted(Path(name).name for name in names if "/sql/migrations/" in name) == migrations
    assert any("/sql/examples/" in name for name in names)
    assert sorted(Path(name).name for name in names if "/report/templates/" in name) == templates
    assert "app/db/sql/uninstall.sql" in names
    assert "tenantcast.py" in names
    assert not [name for name in names if name.startswith(("tests/", "supabase/", "benchmarks/"))]


def test_the_environment_runs_the_wheel_and_not_the_checkout(environment: Path, tmp_path: Path) -> None:
    code = "import app, tenantcast; print(app.__file__); print(tenantcast.__file__)"

    out = subprocess.run([_python(environment), "-c", code], cwd=tmp_path, capture_output=True, text=True, check=True)

    assert all(Path(line).is_relative_to(environment) for line in out.stdout.splitlines())


def test_the_installed_command_migrates_in_an_empty_directory(shell: Shell) -> None:
    status = shell.json("db", "status")

    assert status["pending"] == []
    assert len(status["applied"]) == len(list((ROOT / "supabase" / "migrations").glob("*.sql")))
    assert {path.name for path in shell.directory.iterdir()} == {".tenantcast"}
    assert shell.json("doctor")["ok"]
    assert shell.json("db", "uninstall", "--yes") == {"uninstalled": True}


def test_the_installed_demo_runs_in_an_empty_directory_and_leaves_nothing_running(shell: Shell) -> None:
    result = shell.json("demo", ML_MODEL_CANDIDATES="naive,snaive,weekday_mean")

    page = Path(result["page"])
    assert len(result["shops"]) == 12
    assert not result["counts"].get("failed")
    assert page.is_relative_to(shell.directory / ".tenantcast" / "demo")
    assert "</html>" in page.read_text(encoding="utf-8")
    assert shell.json("db", "stop", TENANTCAST_HOME=".tenantcast/demo") == {
        "stopped": False,
        "home": ".tenantcast/demo",
    }


def test_a_product_with_an_app_package_of_its_own_is_told_so(shell: Shell) -> None:
    (shell.directory / "app").mkdir()
    (shell.directory / "app" / "__init__.py").write_text("raise SystemExit('imported')\n", encoding="utf-8")

    refused = shell.run("db", "status", code=2, PYTHONPATH=str(shell.directory))

    assert str(shell.directory / "app" / "__init__.py") in refused.stderr
    assert "imported" not in refused.stderr
