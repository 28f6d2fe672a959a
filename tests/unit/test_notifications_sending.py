"""Addresses, channels, breakers and back-off: without a database, with servers of the test's own."""

import json
import ssl
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
from pydantic import SecretStr

from app.config.settings import Settings
from app.db.store import TenantStore
from app.errors import AddressRefused, DeliveryFailed, UnknownNotification
from app.services.notifications.addresses import check_address, is_public, redact, resolve_webhook
from app.services.notifications.breaker import Breakers
from app.services.notifications.channels import (
    ChatChannel,
    EmailChannel,
    Message,
    WebhookChannel,
    open_channels,
)
from app.services.notifications.send import MAX_TRIES, Sender, backoff_seconds, send_everywhere
from app.tenancy import parse_tenant_id
from tests.servers.receiver import mail_server, webhook_server

TENANT = parse_tenant_id("aaaaaaaa-0000-4000-8000-000000000001")
NOTICE = UUID("cccccccc-0000-4000-8000-000000000003")
MESSAGE = Message(
    str(NOTICE), str(TENANT), "anomaly", "Día inusual", "Se vendió 9 €.", "2026-11-21T08:00:00Z", {"y": 9}
)


# --- addresses -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "address",
    [
        "http://example.com/x", "https://", "https:///x", "https://user:pw@example.com/", "https://user@example.com/",
        "https://example.com:99999/", "https://example.com/a b", "https://example.com/\n", "https://exa\\mple.com/",
        "https://example.com/#f", "file:///etc/passwd", "ftp://example.com", "gopher://example.com", "//example.com",
        "json://example.com", "https://ex\u00e4mple.com/", "", "https://[::1", "x" * 3000,
    ],
)  # fmt: skip
def test_what_is_no_plain_https_address_is_no_webhook(address: str) -> None:
    with pytest.raises(AddressRefused):
        check_address("webhook", address, allow_private=False)


@pytest.mark.parametrize(
    "address",
    [
        "slack://a/b/c?template=/etc/passwd", "jsons://example.com/x", "mailtos://u:p@example.com", "syslog://",
        "discord://1/2?redirect=yes", "https://hooks.slack.com/services/x", "slack://", "windows://", "dbus://",
        "slack://a/b/c slack://d/e/f", "tgram://b/c&verify=no", "gchat://a/b/c\n",
    ],
)  # fmt: skip
def test_a_chat_is_one_of_four_services_without_options(address: str) -> None:
    with pytest.raises(AddressRefused):
        check_address("chat", address, allow_private=True)


@pytest.mark.parametrize("address", ["slack://T1JJ3T3L2/A1BRTD4JD/TIiajkdnlazkcOXrIdevi7FQ/#general", "discord://1/2"])
def test_the_chat_services_that_we_know_are_fine(address: str) -> None:
    check_address("chat", address, allow_private=False)


@pytest.mark.parametrize("address", ["a", "a@b", "a@b.c,d@e.f", "a b@c.de", "a@b.c\nBcc: x@y.z", "<a@b.cd>", "a@b.c;d"])
def test_an_email_address_is_one_address_and_nothing_more(address: str) -> None:
    with pytest.raises(AddressRefused):
        check_address("email", address, allow_private=True)
    check_address("email", "shop+alerts@mail.example.com", allow_private=False)


@pytest.mark.parametrize(
    "ip",
    [
        "127.0.0.1", "10.0.0.1", "172.16.0.1", "192.168.1.1", "169.254.169.254", "100.64.0.1", "0.0.0.0", "224.0.0.1",
        "255.255.255.255", "::1", "::", "fe80::1", "fe80::1%eth0", "fc00::1", "ff02::1", "::ffff:127.0.0.1",
        "::ffff:169.254.169.254", "64:ff9b::7f00:1", "64:ff9b::a9fe:a9fe", "2002:7f00:1::", "2002:a00:1::",
        "192.0.2.1", "198.18.0.1", "240.0.0.1", "nonsense", "",
    ],
)  # fmt: skip
def test_an_address_that_is_not_on_the_public_internet_is_refused(ip: str) -> None:
    assert not is_public(ip)
    with pytest.raises(AddressRefused):
        resolve_webhook("https://hook.example/x", allow_private=False, resolver=lambda _host, _port: ["1.1.1.1", ip])


@pytest.mark.parametrize("ip", ["1.1.1.1", "8.8.8.8", "2606:4700:4700::1111", "64:ff9b::101:101"])
def test_public_addresses_are_fine(ip: str) -> None:
    assert is_public(ip)


@pytest.mark.parametrize("host", ["localhost", "127.1", "2130706433", "0x7f.1", "0", "[::1]", "[::ffff:7f00:1]"])
def test_every_spelling_of_this_machine_is_refused(host: str) -> None:
    with pytest.raises((AddressRefused, DeliveryFailed)):
        resolve_webhook(f"https://{host}/", allow_private=False)


def test_a_name_that_cannot_be_resolved_may_be_tried_again() -> None:
    def fails(_host: str, _port: int) -> list[str]:
        raise OSError

    with pytest.raises(DeliveryFailed):
        resolve_webhook("https://hook.example/", allow_private=False, resolver=fails)
    with pytest.raises(DeliveryFailed):
        resolve_webhook("https://hook.example/", allow_private=False, resolver=lambda _host, _port: [])


def test_what_is_shown_of_an_address_opens_nothing() -> None:
    assert redact("email", "maria@example.com") == "m…@example.com"
    assert redact("webhook", "https://hook.example:8443/secret?token=1") == "https://hook.example/…"
    assert redact("chat", "slack://A/B/C") == "slack://…"


# --- webhooks --------------------------------------------------------------------------------------------------------


def test_a_webhook_receives_one_json_object_with_its_id_as_idempotency_key() -> None:
    with webhook_server() as server:
        WebhookChannel(allow_private=True).send(SecretStr(f"{server.url}/hook?shop=1"), MESSAGE)

    (request,) = server.received
    assert request.path == "/hook?shop=1"
    assert request.headers["host"] == server.url.removeprefix("http://")
    assert request.headers["idempotency-key"] == str(NOTICE)
    assert json.loads(request.body) == {
        "notification_id": str(NOTICE), "tenant_id": str(TENANT), "kind": "anomaly", "title": "Día inusual",
        "body": "Se vendió 9 €.", "created_at": "2026-11-21T08:00:00Z", "payload": {"y": 9},
    }  # fmt: skip


@pytest.mark.parametrize(
    ("status", "error"),
    [
        (200, None), (204, None), (301, AddressRefused), (302, AddressRefused), (307, AddressRefused),
        (400, AddressRefused), (404, AddressRefused), (410, AddressRefused), (429, DeliveryFailed),
        (500, DeliveryFailed), (503, DeliveryFailed),
    ],
)  # fmt: skip
def test_the_answer_decides_whether_another_try_can_help(status: int, error: type[Exception] | None) -> None:
    with webhook_server(status) as server:
        channel, address = WebhookChannel(allow_private=True), SecretStr(f"{server.url}/hook")
        if error is None:
            channel.send(address, MESSAGE)
        else:
            with pytest.raises(error):
                channel.send(address, MESSAGE)

    assert [request.path for request in server.received] == ["/hook"]  # a redirect leads nowhere


def test_a_webhook_on_this_machine_is_refused_before_a_connection_is_made() -> None:
    with webhook_server() as server, pytest.raises(AddressRefused):
        WebhookChannel(resolver=lambda _host, _port: ["127.0.0.1"]).send(
            SecretStr(server.url.replace("http://", "https://")), MESSAGE
        )

    assert server.received == []


def test_a_webhook_that_nobody_serves_may_be_tried_again() -> None:
    with webhook_server() as server:
        gone = server.url

    with pytest.raises(DeliveryFailed):
        WebhookChannel(allow_private=True).send(SecretStr(gone), MESSAGE)


def test_the_connection_goes_to_the_address_that_was_looked_at_and_the_certificate_to_the_name(tmp_path: Path) -> None:
    certificate, key = _certificate(tmp_path, "hook.example")
    trusts = ssl.create_default_context(cafile=str(certificate))
    asked: list[str] = []

    def once(host: str, _port: int) -> list[str]:
        asked.append(host)
        return ["127.0.0.1"] if len(asked) == 1 else ["203.0.113.9"]  # a name that leads elsewhere the second time

    with webhook_server(tls=(certificate, key)) as server:
        port = server.url.rpartition(":")[2]
        address = SecretStr(f"https://hook.example:{port}/x")
        WebhookChannel(allow_private=True, resolver=once, tls=trusts).send(address, MESSAGE)
        with pytest.raises(DeliveryFailed):  # the certificate is not for this name
            WebhookChannel(allow_private=True, resolver=lambda _h, _p: ["127.0.0.1"], tls=trusts).send(
                SecretStr(f"https://other.example:{port}/x"), MESSAGE
            )

    assert asked == ["hook.example"]
    assert [request.headers["host"] for request in server.received] == [f"hook.example:{port}"]


def _certificate(folder: Path, name: str) -> tuple[Path, Path]:
    """A certificate that signs itself, for ``name``, and its key."""
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, name)])
    now = datetime.now(UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(subject).issuer_name(subject).public_key(key.public_key())
        .serial_number(1).not_valid_before(now - timedelta(days=1)).not_valid_after(now + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(name)]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )  # fmt: skip
    paths = folder / "certificate.pem", folder / "key.pem"
    paths[0].write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    paths[1].write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    return paths


# --- e-mail and chat -------------------------------------------------------------------------------------------------


def test_an_email_goes_through_the_operators_server_to_the_tenants_address() -> None:
    with mail_server() as server:
        channel = EmailChannel(SecretStr(f"mailto://127.0.0.1:{server.port}?from=alerts@tenantcast.example"))
        channel.send(SecretStr("shop+alerts@example.com"), MESSAGE)

    (mail,) = server.mails
    assert mail.recipients == ["shop+alerts@example.com"]
    assert mail.sender == "alerts@tenantcast.example"
    assert mail.subject == "Día inusual"
    assert "Se vendió 9 €." in mail.text


def test_a_mail_server_that_is_away_may_be_tried_again() -> None:
    with mail_server() as server:
        port = server.port

    with pytest.raises(DeliveryFailed):
        EmailChannel(SecretStr(f"mailto://127.0.0.1:{port}?from=a@b.example")).send(SecretStr("x@y.example"), MESSAGE)


@pytest.mark.parametrize("server", [None, "json://127.0.0.1", "nonsense"])
def test_without_a_mail_server_no_email_can_be_sent(server: str | None) -> None:
    with pytest.raises(AddressRefused):
        EmailChannel(SecretStr(server) if server else None).send(SecretStr("x@y.example"), MESSAGE)


def test_a_chat_address_that_the_service_does_not_know_is_refused() -> None:
    with pytest.raises(AddressRefused):
        ChatChannel().send(SecretStr("discord://x"), MESSAGE)


def test_the_mail_servers_password_shows_nowhere() -> None:
    settings = Settings(notification_email_url=SecretStr("mailtos://me:hunter2hunter2@smtp.example"))

    assert "hunter2" not in f"{settings!r} {open_channels(settings)!r}"


# --- breakers and back-off -------------------------------------------------------------------------------------------


def test_a_destination_that_fails_five_times_rests_for_a_minute_then_for_two() -> None:
    now = [1000.0]
    breakers = Breakers(clock=lambda: now[0])
    rests = []
    for _ in range(6):
        breakers.failed("hook.example")
        rests.append(breakers.rest_seconds("hook.example"))

    assert rests == [0, 0, 0, 0, 60, 120]
    assert breakers.rest_seconds("other.example") == 0
    now[0] += 119
    assert breakers.rest_seconds("hook.example") == 1
    now[0] += 1
    assert breakers.rest_seconds("hook.example") == 0
    breakers.succeeded("hook.example")
    breakers.failed("hook.example")
    assert breakers.rest_seconds("hook.example") == 0


def test_no_rest_is_longer_than_a_quarter_of_an_hour() -> None:
    breakers = Breakers(clock=lambda: 0.0)
    for _ in range(2000):
        breakers.failed("x")

    assert breakers.rest_seconds("x") == 900


def test_tries_come_after_longer_and_longer_pauses() -> None:
    assert [backoff_seconds(tries, 0.0) for tries in range(1, MAX_TRIES)] == [
        30,
        60,
        120,
        240,
        480,
        960,
        1920,
        3600,
        3600,
    ]
    assert backoff_seconds(1, 1.0) == 15
    assert backoff_seconds(1000, 0.0) == 3600


# --- what a sender does with what it claimed -------------------------------------------------------------------------


class Way:
    """A channel that does what it is told."""

    def __init__(self, error: Exception | None = None) -> None:
        self.error, self.sent = error, 0

    def destination(self, address: SecretStr) -> str:
        return address.get_secret_value()

    def send(self, address: SecretStr, message: Message) -> None:
        self.sent += 1
        if self.error:
            raise self.error


class Ledger:
    """A gateway that hands out one delivery again and again, and remembers how each ended."""

    name = "fake"

    def __init__(self, tries: int = 0, address: str | None = "there") -> None:
        self.tries, self.address, self.ends = tries, address, list[dict[str, Any]]()

    def call(self, function: str, params: Any) -> Any:
        if function == "ml_end_delivery":
            self.ends.append({key: params[f"p_{key}"] for key in ("state", "error", "retry_in_seconds", "counts")})
            return {"outcome": params["p_state"]}
        if params["p_channel"] != "webhook":
            return {"outcome": "unknown"}
        message = {
            "notification_id": str(NOTICE), "kind": "anomaly", "title": "t", "body": "", "payload": {},
            "created_at": "",
        }  # fmt: skip
        return {"outcome": "claimed", "fence": 1, "tries": self.tries, "address": self.address, "message": message}

    def close(self) -> None:
        """Nothing is open."""


def sender(way: Way, breakers: Breakers | None = None) -> Sender:
    return Sender({"webhook": way}, breakers or Breakers(clock=lambda: 0.0), lease_seconds=60, daily_limit=20)


def test_what_is_sent_is_written_down_as_sent_and_other_channels_are_left_out_of_the_report() -> None:
    ledger = Ledger()

    report = send_everywhere(sender(Way()), TenantStore(ledger, TENANT), str(NOTICE))

    assert report == [{"notification_id": str(NOTICE), "channel": "webhook", "outcome": "sent"}]
    assert [end["state"] for end in ledger.ends] == ["sent"]


def test_a_failure_that_may_pass_is_tried_again_until_the_tenth() -> None:
    first, last = Ledger(tries=0), Ledger(tries=MAX_TRIES - 1)
    for ledger in (first, last):
        sender(Way(DeliveryFailed("It is away."))).send(TenantStore(ledger, TENANT), NOTICE, "webhook")

    assert first.ends[0]["state"] == "pending"
    assert 15 <= first.ends[0]["retry_in_seconds"] <= 30
    assert first.ends[0]["error"] == "It is away."
    assert last.ends[0]["state"] == "failed"


@pytest.mark.parametrize(
    "ledger_and_way", [(Ledger(address=None), Way()), (Ledger(), Way(AddressRefused("The webhook answered 404.")))]
)
def test_what_no_other_try_can_help_fails_at_once(ledger_and_way: tuple[Ledger, Way]) -> None:
    ledger, way = ledger_and_way

    sender(way).send(TenantStore(ledger, TENANT), NOTICE, "webhook")

    assert [end["state"] for end in ledger.ends] == ["failed"]


def test_a_resting_destination_is_not_tried_and_no_try_is_counted() -> None:
    ledger, way = Ledger(), Way(DeliveryFailed("It is away."))
    one = sender(way)
    for _ in range(6):
        one.send(TenantStore(ledger, TENANT), NOTICE, "webhook")

    assert way.sent == 5
    assert ledger.ends[-1] == {"state": "pending", "error": "resting", "retry_in_seconds": 60, "counts": False}


@pytest.mark.parametrize(
    ("notification_id", "channel"), [("x", None), (None, "email"), (NOTICE, "in_app"), (NOTICE, 7)]
)
def test_arguments_that_are_no_message_are_refused(notification_id: object, channel: object) -> None:
    with pytest.raises(UnknownNotification):
        send_everywhere(sender(Way()), TenantStore(Ledger(), TENANT), notification_id, channel)
