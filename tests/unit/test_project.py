"""What the project promises about itself: pins, pages and the environment of numpy."""

import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from app.config.ml_settings import MLSettings

ROOT = Path(__file__).resolve().parents[2]
TRACKED = subprocess.run(
    ["git", "-c", "safe.directory=*", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True
).stdout.split("\n")


@pytest.mark.parametrize("name", ["requirements.lock", "requirements-dev.lock", "requirements-bench.lock"])
def test_lock_files_pin_by_hash_and_name_no_address(name: str) -> None:
    text = (ROOT / name).read_text(encoding="utf-8")

    pins = re.findall(r"^[a-z0-9][\w.\-\[\]]*==", text, flags=re.MULTILINE | re.IGNORECASE)

    assert len(pins) > 50
    assert text.count("--hash=sha256:") >= len(pins)
    assert "://" not in text


def test_rivals_of_the_benchmark_have_their_own_environment_with_the_versions_of_the_product() -> None:
    pinned = {
        name: set(
            re.findall(r"^([a-z0-9][\w.\-]*)==(\S+)", (ROOT / name).read_text(encoding="utf-8"), flags=re.MULTILINE)
        )
        for name in ("requirements.lock", "requirements-dev.lock", "requirements-bench.lock")
    }
    rivals = {"statsforecast", "mlforecast", "lightgbm"}

    assert rivals <= {name for name, _ in pinned["requirements-bench.lock"]}
    assert not rivals & {name for name, _ in pinned["requirements.lock"] | pinned["requirements-dev.lock"]}
    assert {name for name, _ in pinned["requirements.lock"] - pinned["requirements-bench.lock"]} == {"pandas"}


def test_no_lock_file_that_names_download_hosts_is_committed() -> None:
    names = {Path(line).name for line in TRACKED}

    assert not names & {"uv.lock", "pylock.toml", "package-lock.json", "yarn.lock", "poetry.lock"}


def test_the_readme_lists_every_setting() -> None:
    readme = (ROOT / "README.md").read_text(encoding="utf-8")

    missing = [name for field in MLSettings.model_fields if (name := f"ML_{field.upper()}") not in readme]

    assert missing == []


def test_ci_runs_the_test_command_of_the_readme() -> None:
    readme = (ROOT / "README.md").read_text(encoding="utf-8")

    marked = readme.split("<!-- test command -->")[1].split("```")[1]

    assert "make test" in marked.splitlines()
    assert "<!-- test command -->" in (ROOT / ".ci" / "run").read_text(encoding="utf-8")


def test_the_image_copies_everything_that_the_wheel_is_made_of() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    wheel = project["tool"]["hatch"]["build"]["targets"]["wheel"]
    needed = {
        Path(path).parts[0] for path in [*wheel["packages"], *wheel["force-include"], project["project"]["readme"]]
    }

    copied = re.findall(r"^COPY (?!--)(.+) \S+$", (ROOT / "Dockerfile").read_text(encoding="utf-8"), flags=re.MULTILINE)

    assert needed <= set(" ".join(copied).split())


def test_importing_app_pins_native_threads_before_numpy() -> None:
    code = "import app, os, sys; assert 'numpy' not in sys.modules; print(os.environ['OMP_NUM_THREADS'])"

    out = subprocess.run([sys.executable, "-c", code], cwd=ROOT, env={}, capture_output=True, text=True, check=True)

    assert out.stdout.strip() == "1"


def test_relative_links_in_the_pages_lead_somewhere() -> None:
    pages = [ROOT / line for line in TRACKED if line.endswith(".md")]

    broken = [
        f"{page.relative_to(ROOT)} -> {target}"
        for page in pages
        for target in re.findall(r"\]\((?!https?:|#)([^)#]+)", page.read_text(encoding="utf-8"))
        if not (page.parent / target).exists()
    ]

    assert broken == []
