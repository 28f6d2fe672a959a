"""A server on the loopback that answers each request with the next fault of a script."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


@dataclass(frozen=True)
class Fault:
    """One answer. ``cut`` sends only so many bytes of the body that was announced, then hangs up."""

    status: int = 200
    body: bytes = b""
    content_type: str = "application/json; charset=utf-8"
    headers: dict[str, str] = field(default_factory=dict)
    cut: int | None = None
    hang_up: bool = False


@dataclass
class FaultServer:
    """``script`` is consumed from its front; the last fault repeats. ``requests`` are the bodies that came in."""

    url: str
    script: list[Fault] = field(default_factory=list)
    requests: list[bytes] = field(default_factory=list)


@contextmanager
def faulty_server() -> Iterator[FaultServer]:
    """Serve faults until the block ends."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            served.requests.append(self.rfile.read(int(self.headers.get("Content-Length") or 0)))
            fault = served.script.pop(0) if len(served.script) > 1 else served.script[0]
            if fault.hang_up:
                return
            self.send_response(fault.status)
            self.send_header("Content-Type", fault.content_type)
            self.send_header("Content-Length", str(len(fault.body)))
            for name, value in fault.headers.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(fault.body[: fault.cut])

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the base class's name
            """Say nothing: a test's output is its own."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        server.daemon_threads = True
        served = FaultServer(f"http://127.0.0.1:{server.server_address[1]}")
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
        thread.start()
        try:
            yield served
        finally:
            server.shutdown()
            thread.join()
