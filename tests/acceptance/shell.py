"""The command as a user runs it: a process of its own, in a directory of its own, over a database of its own."""

import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

INSTALLED = Path(sys.executable).parent / "tenantcast"
SECONDS = 300


@dataclass(frozen=True)
class Shell:
    """Runs ``command`` in ``directory``; settings of whoever runs the tests stay out."""

    directory: Path
    command: tuple[str, ...] = (str(INSTALLED),)
    settings: dict[str, str] = field(default_factory=dict)

    def run(self, *arguments: str, code: int | None = 0, **settings: str) -> subprocess.CompletedProcess[str]:
        """The finished process; its exit code has to be ``code`` unless that is None."""
        environment = {"PATH": os.environ["PATH"], "HOME": str(self.directory), "LANG": "C.UTF-8"}
        done = subprocess.run(
            [*self.command, *arguments],
            cwd=self.directory,
            env={**environment, **self.settings, **settings},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=SECONDS,
            check=False,
        )
        assert code is None or done.returncode == code, f"{arguments}: {done.returncode}\n{done.stdout}\n{done.stderr}"
        return done

    def json(self, *arguments: str, code: int = 0, **settings: str) -> Any:
        """What the command prints with ``--json``: the whole of stdout is one document."""
        return json.loads(self.run(*arguments, "--json", code=code, **settings).stdout)


@contextmanager
def private_shell(
    command: tuple[str, ...] = (str(INSTALLED),), settings: dict[str, str] | None = None
) -> Iterator[Shell]:
    """A shell in an empty directory; the private PostgreSQL that a command starts there ends with it.

    Below the system's directory for temporary files and open to every account, because a server that root starts runs
    as `nobody`: its files then lie in the home and go with it.
    """
    directory = Path(tempfile.mkdtemp(prefix="tenantcast-test-"))
    directory.chmod(0o755)
    shell = Shell(directory, command, settings or {})
    try:
        yield shell
    finally:
        shell.run("db", "stop", code=None)
        shutil.rmtree(directory)
