"""Where a message may go: addresses come from tenants, so they are hostile, and secrets, so they are never shown.

A webhook is https and leads to the public internet: its name is resolved once, every answer has to be a public address,
and the connection goes to the very address that was looked at (a second look-up could answer something else). A chat
is one of a few services whose hosts are fixed. An e-mail address is an address and nothing more.
"""

import ipaddress
import re
import socket
from collections.abc import Callable
from dataclasses import dataclass
from urllib.parse import SplitResult, urlsplit

from app.errors import AddressRefused, DeliveryFailed

# Apprise's names of services that talk to one fixed host each.
CHAT_SERVICES = ("slack", "discord", "tgram", "gchat")
MAX_ADDRESS = 2000  # octets, as in the table

_EMAIL = re.compile(r"[A-Za-z0-9.!#$&'*+/=?^_`{|}~-]{1,64}@[A-Za-z0-9-]{1,63}(\.[A-Za-z0-9-]{1,63})+")
_CHAT = re.compile(rf"({'|'.join(CHAT_SERVICES)})://[A-Za-z0-9_.:@#/+=-]+")  # no query: options could do anything
_NAT64 = ipaddress.ip_network("64:ff9b::/96")

IpAddress = ipaddress.IPv4Address | ipaddress.IPv6Address
Resolver = Callable[[str, int], list[str]]


@dataclass(frozen=True)
class Target:
    """A webhook that was looked at: connect to ``ip``, speak to ``host``."""

    scheme: str
    host: str
    port: int
    ip: str


def look_up(host: str, port: int) -> list[str]:
    """The addresses of a host, as the system resolves it."""
    found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return [str(item[4][0]) for item in found]


def check_address(channel: str, address: str, *, allow_private: bool) -> None:
    """Raise AddressRefused when ``address`` cannot be one of this channel; looks nothing up."""
    if len(address.encode()) > MAX_ADDRESS:
        raise AddressRefused(f"The {channel} address is longer than {MAX_ADDRESS} octets.")
    if channel == "email":
        if not _EMAIL.fullmatch(address):
            raise AddressRefused("That is no e-mail address.", next_step="One address, such as shop@example.com.")
    elif channel == "chat":
        if not _CHAT.fullmatch(address):
            raise AddressRefused(
                "That is no address of a chat service that we know.",
                next_step="For instance slack://TOKEN-A/TOKEN-B/TOKEN-C, discord://ID/TOKEN, tgram://BOT/CHAT or "
                "gchat://WORKSPACE/KEY/TOKEN, without options behind a question mark.",
            )
    else:
        split_webhook(address, allow_private=allow_private)


def split_webhook(address: str, *, allow_private: bool) -> SplitResult:
    """The parts of a webhook's address, when it is one."""
    refused = AddressRefused("That is no address of a webhook.", next_step="For instance https://example.com/hook.")
    if not address.isascii() or not address.isprintable() or any(char in address for char in " \\<>\"'"):
        raise refused
    try:
        parts = urlsplit(address)
        _ = parts.port
    except ValueError:
        raise refused from None
    if not parts.hostname or parts.username is not None or parts.password is not None or parts.fragment:
        raise refused
    if parts.scheme != "https" and not (allow_private and parts.scheme == "http"):
        raise AddressRefused("A webhook's address begins with https://.")
    return parts


def resolve_webhook(address: str, *, allow_private: bool, resolver: Resolver = look_up) -> Target:
    """Look a webhook's host up, once.

    Raises
    ------
    AddressRefused : no webhook, or one of its addresses is not on the public internet
    DeliveryFailed : the name cannot be resolved now
    """
    parts = split_webhook(address, allow_private=allow_private)
    host = parts.hostname or ""
    port = parts.port or (443 if parts.scheme == "https" else 80)
    try:
        found = resolver(host, port)
    except (OSError, UnicodeError):
        raise DeliveryFailed("The webhook's host name cannot be resolved.") from None
    if not found:
        raise DeliveryFailed("The webhook's host name cannot be resolved.")
    if not allow_private and not all(is_public(ip) for ip in found):
        raise AddressRefused(
            "The webhook leads to an address that is not on the public internet.",
            next_step="The operator may allow that with NOTIFICATION_ALLOW_PRIVATE=true.",
        )
    return Target(parts.scheme, host, port, found[0])


def is_public(text: str) -> bool:
    """Is this an address of the public internet, also when an IPv4 address hides in it?"""
    try:
        ip: IpAddress = ipaddress.ip_address(text.partition("%")[0])
    except ValueError:
        return False
    inner = _inner_ipv4(ip)
    return ip.is_global and not ip.is_multicast and (inner is None or (inner.is_global and not inner.is_multicast))


def _inner_ipv4(ip: IpAddress) -> ipaddress.IPv4Address | None:
    """The IPv4 address that a mapped, 6to4, Teredo or NAT64 address leads to."""
    if isinstance(ip, ipaddress.IPv4Address):
        return None
    if ip in _NAT64:
        return ipaddress.IPv4Address(int(ip) & 0xFFFFFFFF)
    return ip.ipv4_mapped or ip.sixtofour or (ip.teredo[1] if ip.teredo else None)


def redact(channel: str, address: str) -> str:
    """What may be shown of an address: enough to recognise it, nothing that lets anybody in."""
    if channel == "email":
        name, _, domain = address.partition("@")
        return f"{name[:1]}…@{domain}"
    if channel == "chat":
        return f"{address.partition('://')[0]}://…"
    try:
        return f"{urlsplit(address).scheme}://{urlsplit(address).hostname}/…"
    except ValueError:
        return "…"
