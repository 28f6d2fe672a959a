"""The database of a machine that has none: a private PostgreSQL that belongs to one home directory.

The rule is short. Whoever needs it first starts it; everyone else adopts it, also after its starter was killed; it
keeps running, on its own, until someone calls `stop` (``tenantcast db stop``) or the machine ends. Its settings are
PostgreSQL's durable defaults. A lock on a file in the home keeps two starters apart.

In the home stand ``postgres.json`` (where the files are), ``postgres.lock`` and, as a rule, the data in ``postgres/``.
As root the server runs as `nobody`, and where `nobody` cannot enter the home (a clone below a 0700 directory) the files
go into a directory of their own below /var/lib.
"""

import fcntl
import json
import os
import shutil
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import structlog

from app.db.cluster import Account, Cluster, Programs, find_programs, make_directory, socket_directory
from app.errors import ConfigError, DatabaseUnavailable

log = structlog.get_logger(__name__)

DATABASE = "tenantcast"
_OUTSIDE = ("/var/lib", "/var/tmp", "/tmp")  # noqa: S108 - as root only; the last two where the first is read-only
_ORPHANS_SECONDS = 10


class EmbeddedPostgres:
    """The private PostgreSQL of ``home``. ``started`` says whether this object started the server that runs."""

    def __init__(self, home: Path) -> None:
        self.home = home.absolute()
        self.started = False

    def ensure_running(self) -> str:
        """The address of the database, running and migrated; the first call makes it (some seconds).

        Raises
        ------
        MissingPart : there is no PostgreSQL for this machine
        ConfigError : the home cannot be written, or belongs to another account
        DatabaseUnavailable : the server does not start; the message says what its log says
        """
        from app.db.migrate import migrate

        with self._locked():
            url = (self._running() or self._start()).url(DATABASE)
            _ensure_database(url)
            migrate(url, examples=True)
        return url

    def stop(self) -> bool:
        """Stop the server, whoever started it; whether one ran."""
        if not self._record.exists():
            return False
        with self._locked():
            cluster = self._running()
            self.started = False
            return cluster is not None and cluster.stop()

    def is_running(self) -> bool:
        """Whether the server runs, once it accepts connections; nothing is started."""
        return self._record.exists() and self._running() is not None

    def discard(self) -> None:
        """Stop the server and delete its files: all sales and forecasts in it."""
        self.stop()
        place = _Place.read(self._record)
        if place is not None:
            shutil.rmtree(place.root)
            if place.sockets.exists():  # elsewhere, for its short name
                place.sockets.rmdir()
        self._record.unlink(missing_ok=True)

    @property
    def _record(self) -> Path:
        return self.home / "postgres.json"

    def _running(self) -> Cluster | None:
        """The server that runs already, once it accepts connections."""
        place = _Place.read(self._record)
        if place is None:
            return None
        cluster = Cluster(place.root / "data", place.sockets, _account_of(place.root))
        return cluster if cluster.answers() else None

    def _start(self) -> Cluster:
        place = _Place.read(self._record)
        root = place.root if place else self._new_root()
        account = _account_of(root)
        programs = find_programs(_major_of(root / "data")).usable_by(account, root)
        place = _Place(root, socket_directory(root / "socket", account))
        place.write(self._record)
        cluster = Cluster(root / "data", place.sockets, account)
        if not cluster.data.exists():
            cluster.create(programs)
        _start_after_orphans(cluster, programs)
        self.started = True
        return cluster

    def _new_root(self) -> Path:
        """Where the files will be: in the home, unless the server's account cannot come there."""
        account = Account.for_server()
        root = self.home / "postgres"
        if not account.can_enter(self.home):
            return _outside(account)
        make_directory(root, account)
        return root

    @contextmanager
    def _locked(self) -> Iterator[None]:
        """Only one process starts or stops; the system lifts the lock when its holder dies."""
        try:
            self.home.mkdir(parents=True, exist_ok=True)
            file = (self.home / "postgres.lock").open("a")
        except OSError as error:
            raise ConfigError(
                f"{self.home} cannot be written ({error.strerror}).",
                next_step="Set TENANTCAST_HOME to a directory of your own, or DATABASE_URL to use another database.",
            ) from error
        with file:
            fcntl.flock(file, fcntl.LOCK_EX)
            yield


@dataclass(frozen=True)
class _Place:
    """Where the server's files and its socket are, as written down in the home."""

    root: Path
    sockets: Path

    @classmethod
    def read(cls, record: Path) -> "_Place | None":
        """What ``record`` says; None without one, or when what it names is gone."""
        try:
            written = json.loads(record.read_text())
        except FileNotFoundError:
            return None
        place = cls(record.parent / written["root"], record.parent / written["sockets"])
        if place.root.is_dir():
            return place
        log.warning("private_database_files_gone", files=str(place.root), home=str(record.parent), kept="nothing")
        return None

    def write(self, record: Path) -> None:
        """Paths within the home are kept relative, so that a home can be moved while its server is stopped."""
        unfinished = record.with_suffix(".new")
        with unfinished.open("w") as file:
            json.dump({name: _relative(path, record.parent) for name, path in vars(self).items()}, file, indent=2)
            file.flush()
            os.fsync(file.fileno())
        unfinished.replace(record)


def _relative(path: Path, home: Path) -> str:
    return str(path.relative_to(home) if path.is_relative_to(home) else path)


def _account_of(root: Path) -> Account:
    """The server's account is the owner of its files, also when root comes along later."""
    account = Account.owning(root)
    if os.geteuid() not in (0, account.uid):
        raise ConfigError(
            f"The database in {root} belongs to another account (uid {account.uid}).",
            next_step="Run as that account, or set TENANTCAST_HOME to a directory of your own.",
        )
    return account


def _start_after_orphans(cluster: Cluster, programs: Programs) -> None:
    """Start; a killed server's children hold its memory until they notice, and PostgreSQL rightly refuses so long."""
    deadline = time.monotonic() + _ORPHANS_SECONDS
    while True:
        try:
            return cluster.start(programs)
        except DatabaseUnavailable as error:
            if "still in use" not in error.message or time.monotonic() > deadline:
                raise
        time.sleep(0.2)


def _outside(account: Account) -> Path:
    """A fresh directory that ``account`` can reach, for root's homes that it cannot."""
    for base in _OUTSIDE:
        try:
            root = Path(tempfile.mkdtemp(prefix="tenantcast-", dir=base))
        except OSError:  # absent or read-only
            continue
        make_directory(root, account)
        if account.can_enter(root):
            return root
        root.rmdir()
    raise ConfigError(
        f"The account of the database server can write in none of {', '.join(_OUTSIDE)}.",
        next_step="Set TENANTCAST_HOME to a directory that every account can enter, or set DATABASE_URL.",
    )


def _major_of(data: Path) -> int | None:
    """The version that made ``data``, which has to serve it for ever; None when there is none yet."""
    version = data / "PG_VERSION"
    return int(version.read_text()) if version.exists() else None


def _ensure_database(url: str) -> None:
    import psycopg
    from psycopg.conninfo import make_conninfo

    with psycopg.connect(make_conninfo(url, dbname="postgres"), autocommit=True) as connection:
        if connection.execute("select 1 from pg_database where datname = %s", [DATABASE]).fetchone() is None:
            connection.execute(f"create database {DATABASE}")
