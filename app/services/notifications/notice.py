"""One message, and the key that makes it be said once."""

import hashlib
from dataclasses import dataclass, field
from datetime import date
from typing import Any, Literal

Kind = Literal[
    "forecast_ready", "anomaly", "high_error", "sales_drop", "low_stock", "data_stopped", "daily_summary", "digest"
]
KINDS: tuple[Kind, ...] = (
    "forecast_ready", "anomaly", "high_error", "sales_drop", "low_stock", "data_stopped", "daily_summary", "digest",
)  # fmt: skip

# Octets that the table takes; a message that is too long must not stop the publish that it rides with.
MAX_TITLE = 400
MAX_BODY = 10_000
MAX_SUBJECT = 100


@dataclass(frozen=True)
class Notice:
    """What is said about one ``subject`` (a day, a product) in one ``window`` (a day, an ISO week) by one rule."""

    kind: Kind
    subject: str
    window: str
    title: str
    body: str
    payload: dict[str, Any] = field(default_factory=dict)

    @property
    def dedupe_key(self) -> str:
        """Unique per tenant: the same key is never said twice."""
        return ":".join(part for part in (self.kind, short(self.subject), self.window) if part)

    def as_row(self) -> dict[str, Any]:
        """As the outbox takes it: text is cut to what fits, and a title is one line (it becomes a mail's subject)."""
        return {
            "dedupe_key": self.dedupe_key,
            "kind": self.kind,
            "title": clip(one_line(self.title), MAX_TITLE),
            "body": clip(self.body, MAX_BODY),
            "payload": self.payload,
        }


def iso_week(day: date) -> str:
    """The window of rules that speak at most once a week: ``2026-W47``."""
    year, week, _ = day.isocalendar()
    return f"{year}-W{week:02d}"


def clip(text: str, octets: int) -> str:
    """``text`` without NUL, in at most so many octets of UTF-8, whole characters, with an ellipsis where it was cut."""
    text = text.replace("\x00", "")
    if len(text.encode()) <= octets:
        return text
    return text.encode()[: octets - 3].decode(errors="ignore") + "\N{HORIZONTAL ELLIPSIS}"


def one_line(text: str) -> str:
    """Names in a title come from a product's users: line breaks and control characters become spaces."""
    return "".join(sign if sign.isprintable() or sign == "\N{NO-BREAK SPACE}" else " " for sign in text)


def short(subject: str) -> str:
    """A subject that fits into a key: long ones by their hash."""
    if len(subject.encode()) <= MAX_SUBJECT:
        return subject
    return hashlib.sha256(subject.encode()).hexdigest()[:32]
