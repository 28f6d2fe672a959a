"""The door of the `tenantcast` command and of `python -m tenantcast`.

The import package is called `app`, and so is many a product's own. Before anything of it is imported, this looks at
which `app` Python would load, and says so when it is not ours. It imports nothing else, so it always gets that far.
"""

import json
import sys
from importlib.machinery import ModuleSpec
from importlib.util import find_spec
from pathlib import Path

OURS = '"""tenantcast:'  # how our app/__init__.py begins
EXIT_CODE = 2  # configuration, as in app.errors


def main() -> int:
    """Check the package, then run the command; returns the exit code."""
    spec = find_spec("app")
    if not is_ours(spec):
        complain(place_of(spec))
        return EXIT_CODE
    from app.cli import main as run

    return run()


def is_ours(spec: ModuleSpec | None) -> bool:
    """True when the `app` that would be imported begins as ours does."""
    if spec is None or spec.origin is None or not spec.origin.endswith(".py"):
        return False
    return Path(spec.origin).read_text(encoding="utf-8", errors="replace").startswith(OURS)


def place_of(spec: ModuleSpec | None) -> str:
    """Where that other `app` lies; empty when there is none."""
    if spec is None:
        return ""
    return spec.origin or ", ".join(spec.submodule_search_locations or [])


def complain(place: str) -> None:
    """Message and next step on stderr; with ``--json``, as a document on stdout."""
    message = f"The `app` package that Python found is not tenantcast's: {place or 'there is none'}."
    next_step = (
        "It comes first on Python's path. Run tenantcast from a virtual environment of its own and from another "
        "directory, and take your product's directory out of PYTHONPATH."
    )
    if "--json" in sys.argv:
        error = {"kind": "config", "code": "wrong_app_package", "message": message, "next_step": next_step}
        sys.stdout.write(json.dumps({"error": {**error, "tenant_id": None}, "exit_code": EXIT_CODE}, indent=2) + "\n")
    else:
        sys.stderr.write(f"tenantcast: {message}\n\nNext: {next_step}\n")


if __name__ == "__main__":
    sys.exit(main())
