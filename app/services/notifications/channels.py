"""The ways out of the app, behind one Protocol: e-mail and chat through Apprise, webhooks by ourselves.

Webhooks do not go through Apprise because it looks the host up a second time, after our check. Every way has short
timeouts, follows no redirect, checks certificates, and raises one of two errors: trying again may help, or not.
"""

import json
import logging
import ssl
import warnings
from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib import import_module
from typing import TYPE_CHECKING, Any, Protocol
from urllib.parse import quote

from pydantic import SecretStr

from app.config.settings import Settings
from app.errors import AddressRefused, DeliveryFailed
from app.services.notifications.addresses import Resolver, check_address, look_up, resolve_webhook, split_webhook

if TYPE_CHECKING:
    from apprise.plugins import NotifyBase

CONNECT_SECONDS = 5.0
READ_SECONDS = 10.0
PASSING_STATUS = frozenset({408, 425, 429})  # beside 5xx: the receiver asks us to come back


@dataclass(frozen=True)
class Message:
    """What is sent. ``notification_id`` lets a receiver drop the second one of two equal messages."""

    notification_id: str
    tenant_id: str
    kind: str
    title: str
    body: str
    created_at: str
    payload: Mapping[str, Any] = field(default_factory=dict)

    @property
    def text(self) -> str:
        return self.body or self.title


class Channel(Protocol):
    """One way out of the app."""

    def destination(self, address: SecretStr) -> str:
        """Whom we depend on to deliver there (a host, a service): what fails together, rests together."""
        ...

    def send(self, address: SecretStr, message: Message) -> None:
        """Deliver, or say why not.

        Raises
        ------
        DeliveryFailed : trying again later may help
        AddressRefused : it will not
        """
        ...


def open_channels(settings: Settings) -> dict[str, Channel]:
    """All ways out, by the names that the tables use."""
    return {
        "email": EmailChannel(settings.notification_email_url),
        "webhook": WebhookChannel(allow_private=settings.notification_allow_private),
        "chat": ChatChannel(),
    }


@dataclass(frozen=True)
class EmailChannel:
    """Through the operator's mail server; a tenant gives nothing but the recipient."""

    server: SecretStr | None

    def destination(self, address: SecretStr) -> str:  # noqa: ARG002 - one server for all
        return "email"

    def send(self, address: SecretStr, message: Message) -> None:
        if self.server is None:
            raise AddressRefused("No mail server is set.", next_step="Set NOTIFICATION_EMAIL_URL.")
        recipient = address.get_secret_value()
        check_address("email", recipient, allow_private=False)
        server = self.server.get_secret_value()
        plugin = _plugin(f"{server}{'&' if '?' in server else '?'}to={quote(recipient, safe='')}")
        if plugin is None or type(plugin).__name__ != "NotifyEmail":
            raise AddressRefused("NOTIFICATION_EMAIL_URL is no mail server's address.")
        _notify(plugin, message)


@dataclass(frozen=True)
class ChatChannel:
    """A chat service with a host of its own: Slack, Discord, Telegram, Google Chat."""

    def destination(self, address: SecretStr) -> str:
        return address.get_secret_value().partition("://")[0]

    def send(self, address: SecretStr, message: Message) -> None:
        check_address("chat", address.get_secret_value(), allow_private=False)
        plugin = _plugin(address.get_secret_value())
        if plugin is None:
            raise AddressRefused("The chat service does not know such an address.")
        plugin.redirects = False
        plugin.verify_certificate = True
        _notify(plugin, message)


@dataclass(frozen=True)
class WebhookChannel:
    """A POST of one JSON object to the address that was looked at, and to no other."""

    allow_private: bool = False
    resolver: Resolver = look_up
    tls: ssl.SSLContext | bool = True

    def destination(self, address: SecretStr) -> str:
        return split_webhook(address.get_secret_value(), allow_private=self.allow_private).hostname or ""

    def send(self, address: SecretStr, message: Message) -> None:
        target = resolve_webhook(address.get_secret_value(), allow_private=self.allow_private, resolver=self.resolver)
        status = self._post(address.get_secret_value(), target.ip, target.host, webhook_body(message))
        if status in PASSING_STATUS or status >= 500:  # noqa: PLR2004 - the server's own errors
            raise DeliveryFailed(f"The webhook answered {status}.")
        if not 200 <= status < 300:  # noqa: PLR2004 - anything but success, redirects included
            raise AddressRefused(f"The webhook answered {status}; redirects are not followed.")

    def _post(self, address: str, ip: str, host: str, body: dict[str, Any]) -> int:
        import httpx

        url = httpx.URL(address)
        # No proxy of the environment: it would do the look-up again.
        with httpx.Client(
            verify=self.tls,
            trust_env=False,
            follow_redirects=False,
            timeout=httpx.Timeout(READ_SECONDS, connect=CONNECT_SECONDS),
        ) as client:
            request = client.build_request(
                "POST",
                url.copy_with(host=ip),
                content=json.dumps(body, ensure_ascii=False, allow_nan=False).encode(),
                headers={
                    "Host": url.netloc.decode("ascii"),
                    "Content-Type": "application/json",
                    "User-Agent": "tenantcast",
                    "Idempotency-Key": body["notification_id"],
                },
                extensions={"sni_hostname": host},
            )
            try:
                answer = client.send(request, stream=True)  # what it says is not read: it could be endless
                answer.close()
            except (httpx.HTTPError, OSError) as error:
                raise DeliveryFailed(f"The webhook did not answer: {type(error).__name__}.") from None
        return answer.status_code


def webhook_body(message: Message) -> dict[str, Any]:
    """What a webhook receives: stable names, text for people and the numbers behind it."""
    return {
        "notification_id": message.notification_id,
        "tenant_id": message.tenant_id,
        "kind": message.kind,
        "title": message.title,
        "body": message.body,
        "created_at": message.created_at,
        "payload": dict(message.payload),
    }


def _plugin(address: str) -> "NotifyBase | None":
    """Apprise's object for an address; None when it knows no such thing."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # it imports imghdr, which Python 3.13 no longer has
        import_module("apprise.utils.pgp")
    from apprise import Apprise, AppriseAsset
    from apprise.common import PersistentStoreMode

    # It logs addresses, tokens included, and whole answers; what went wrong is in our own errors.
    logging.getLogger("apprise").setLevel(logging.CRITICAL + 1)
    asset = AppriseAsset(
        async_mode=False, secure_logging=True, http_redirects=False, storage_mode=PersistentStoreMode.MEMORY
    )
    return Apprise.instantiate(address, asset=asset)


def _notify(plugin: "NotifyBase", message: Message) -> None:
    from apprise import NotifyFormat, NotifyType

    plugin.socket_connect_timeout = CONNECT_SECONDS
    plugin.socket_read_timeout = READ_SECONDS
    try:
        taken = plugin.notify(
            body=message.text, title=message.title, notify_type=NotifyType.INFO, body_format=NotifyFormat.TEXT
        )
    except Exception as error:  # noqa: BLE001 - whatever a plug-in raises, the message is not delivered
        raise DeliveryFailed(f"The service failed: {type(error).__name__}.") from None
    if not taken:
        raise DeliveryFailed("The service did not take the message.")
