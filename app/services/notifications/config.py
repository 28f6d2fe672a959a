"""Which rules a tenant has on, and what they are judged by: rows of `business_notification_config`, never trusted.

The row of a rule on channel ``in_app`` says whether the rule speaks at all and holds its numbers. Rows on ``email``,
``webhook`` and ``chat`` say where else a message goes; rule ``*`` there is every rule.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, Self

import structlog

from app.errors import InvalidOverride
from app.services.notifications.notice import KINDS

IN_APP = "in_app"
ALL_RULES = "*"
OUTSIDE = ("email", "webhook", "chat")

_log = structlog.get_logger()


@dataclass(frozen=True)
class Number:
    """A setting of a rule: its default, and the range that makes sense."""

    default: float
    least: float
    most: float

    def reject(self, value: object) -> str:
        """Why ``value`` cannot be used; "" when it can."""
        if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
            return "must be a number"
        return "" if self.least <= value <= self.most else f"must be {self.least:g} to {self.most:g}"


NUMBERS: Mapping[str, Mapping[str, Number]] = MappingProxyType(
    {
        "sales_drop": {"drop_percent": Number(30, 1, 100)},
        "low_stock": {"days_ahead": Number(7, 1, 60), "min_stock": Number(0, 0, 1e9)},
        "data_stopped": {"silent_days": Number(3, 1, 28)},
    }
)


@dataclass(frozen=True)
class RuleBook:
    """What is in force for one tenant."""

    off: frozenset[str]
    numbers: Mapping[tuple[str, str], float]

    @classmethod
    def from_rows(cls, rows: Sequence[Mapping[str, Any]]) -> Self:
        """From the table's rows; a number that cannot be used is left at its default, and said in the log."""
        own = [row for row in rows if row["channel"] == IN_APP]
        numbers = {}
        for row in own:
            for name, number in NUMBERS.get(row["rule"], {}).items():
                value = row["settings"].get(name, number.default)
                reason = number.reject(value)
                if reason:
                    _log.warning("rule_setting_refused", rule=row["rule"], setting=name, reason=reason)
                    continue
                numbers[row["rule"], name] = float(value)
        return cls(frozenset(row["rule"] for row in own if not row["enabled"]), MappingProxyType(numbers))

    def is_on(self, rule: str) -> bool:
        return rule not in self.off

    def number(self, rule: str, name: str) -> float:
        return self.numbers.get((rule, name), NUMBERS[rule][name].default)


def require_rule(rule: str, channel: str, settings: Mapping[str, object]) -> None:
    """Raise InvalidOverride when that is no rule, no channel, or no setting of the rule."""
    rules = KINDS if channel == IN_APP else (ALL_RULES, *KINDS)
    if rule not in rules:
        raise InvalidOverride(f"There is no rule {rule[:40]!r}.", next_step=f"Choose among {', '.join(rules)}.")
    if channel not in (IN_APP, *OUTSIDE):
        choices = ", ".join((IN_APP, *OUTSIDE))
        raise InvalidOverride(f"There is no channel {channel[:40]!r}.", next_step=f"Choose among {choices}.")
    known = NUMBERS.get(rule, {}) if channel == IN_APP else {}
    for name, value in settings.items():
        reason = known[name].reject(value) if name in known else "no such setting"
        if reason:
            raise InvalidOverride(
                f"{name[:40]}={str(value)[:40]} of rule {rule} on {channel}: {reason}.",
                next_step=f"Settings of {rule} on {IN_APP}: {', '.join(NUMBERS.get(rule, {})) or 'none'}.",
            )


EMPTY = RuleBook(frozenset(), MappingProxyType({}))
