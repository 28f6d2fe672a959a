"""What receives messages in tests: a webhook that remembers its requests, and a mail server that keeps its mails."""

import socketserver
import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from email import message_from_bytes, policy
from email.message import EmailMessage
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class Received:
    """One request; header names in lower case."""

    path: str
    headers: dict[str, str]
    body: bytes


@dataclass
class Webhook:
    """A running receiver; ``status`` may be changed while it runs."""

    url: str
    status: int
    received: list[Received] = field(default_factory=list)


@contextmanager
def webhook_server(status: int = 200, tls: tuple[Path, Path] | None = None) -> Iterator[Webhook]:
    """A receiver on a free port of the loopback; with ``tls`` (certificate, key) it speaks https."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            headers = {name.lower(): value for name, value in self.headers.items()}
            webhook.received.append(Received(self.path, headers, body))
            self.send_response(webhook.status)
            if 300 <= webhook.status < 400:
                self.send_header("Location", f"{webhook.url}/elsewhere")
            self.send_header("Content-Length", "0")
            self.end_headers()

        do_GET = do_POST

        def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the base class names it
            """Requests are kept, not printed."""

    server = _QuietServer(("127.0.0.1", 0), Handler)
    if tls is not None:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(*tls)
        server.socket = context.wrap_socket(server.socket, server_side=True, do_handshake_on_connect=False)
    webhook = Webhook(f"{'https' if tls else 'http'}://127.0.0.1:{server.server_address[1]}", status)
    with _serving(server):
        yield webhook


class _QuietServer(ThreadingHTTPServer):
    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that refuses our certificate goes away in the middle: that is what a test wants."""


@dataclass(frozen=True)
class Mail:
    """One mail as it came in."""

    sender: str
    recipients: list[str]
    message: EmailMessage

    @property
    def subject(self) -> str:
        return str(self.message["Subject"])

    @property
    def text(self) -> str:
        body = self.message.get_body(("plain", "html"))
        return str(body.get_content()) if body is not None else ""


@dataclass
class MailServer:
    """A running server and what it took."""

    port: int
    mails: list[Mail] = field(default_factory=list)


@contextmanager
def mail_server() -> Iterator[MailServer]:
    """As much of SMTP (RFC 5321) as a client needs to hand in a mail."""

    class Handler(socketserver.StreamRequestHandler):
        def handle(self) -> None:
            self._say("220 ready")
            sender, recipients = "", list[str]()
            for line in iter(self.rfile.readline, b""):
                text = line.decode().strip()
                verb = text[:4].upper()
                if verb == "MAIL":
                    sender = text.partition("<")[2].partition(">")[0]
                elif verb == "RCPT":
                    recipients.append(text.partition("<")[2].partition(">")[0])
                elif verb == "DATA":
                    self._say("354 go on")
                    taken.mails.append(Mail(sender, recipients, self._message()))
                self._say("221 bye" if verb == "QUIT" else "250 ok")
                if verb == "QUIT":
                    return

        def _message(self) -> EmailMessage:
            lines = iter(self.rfile.readline, b".\r\n")
            raw = b"".join(line[1:] if line.startswith(b"..") else line for line in lines)
            return message_from_bytes(raw, policy=policy.default)

        def _say(self, text: str) -> None:
            self.wfile.write(f"{text}\r\n".encode())

    server = socketserver.ThreadingTCPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    taken = MailServer(server.server_address[1])
    with _serving(server):
        yield taken


@contextmanager
def _serving(server: socketserver.BaseServer) -> Iterator[None]:
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
    thread.start()
    try:
        yield
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
