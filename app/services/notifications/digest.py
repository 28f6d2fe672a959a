"""What a tenant reads in the morning: the daily summary, and the digest of what the day's limit held back."""

import math
from datetime import date, timedelta

from app.services.notifications.facts import Expected, Facts
from app.services.notifications.notice import Notice
from app.services.notifications.rules import USUAL_WEEKS, WEEK, stock_out_day
from app.services.notifications.texts import name_of, say
from app.services.report.formats import Locale

NAMED_PRODUCTS = 5
WORTH_A_WORD = 0.01  # a smaller difference is none


def daily_summary(facts: Facts, slot: str) -> Notice | None:
    """The last finished day, what it was beside its weekday, today's forecast, what runs out; None without any sale.

    ``slot`` is the local date that the summary is for: one summary each.
    """
    if facts.first_sale_day is None or not facts.sales or not facts.rules.is_on("daily_summary"):
        return None
    locale, day, sales = facts.locale, facts.last_finished_day, facts.sales[-1]
    key = "daily_summary.title" if facts.rows[-1] else "daily_summary.none"
    values = {"sales": locale.money(sales)} if facts.rows[-1] else {}
    usual = usual_sales(facts)
    return Notice(
        "daily_summary",
        "",
        slot,
        say(locale.language, key, day=_capital(locale.day(day)), **values),
        "\n".join([*_beside_its_weekday(facts, usual), *_today(facts), *_running_out(facts)]),
        {"day": day.isoformat(), "sales": sales, "usual": usual},
    )


def usual_sales(facts: Facts) -> float | None:
    """The mean of the four weekdays before the last finished day; None where the tenant is younger than that."""
    back = [WEEK * week + 1 for week in range(1, USUAL_WEEKS + 1)]
    oldest = facts.last_finished_day - timedelta(days=WEEK * USUAL_WEEKS)
    if facts.first_sale_day is None or facts.first_sale_day > oldest or len(facts.sales) < back[-1]:
        return None
    return math.fsum(facts.sales[-index] for index in back) / USUAL_WEEKS


def digest(facts: Facts, slot: str) -> Notice | None:
    """How many messages of which kind were held back; None when none was."""
    if not facts.held:
        return None
    language = facts.locale.language
    lines = [
        say(language, "digest.line", name=name_of(language, kind), n=facts.locale.number(n))
        for kind, n in sorted(facts.held.items())
    ]
    total = sum(facts.held.values())
    return Notice(
        "digest",
        "",
        slot,
        say(language, "digest.title", n=facts.locale.number(total)),
        "\n".join([say(language, "digest.body"), *lines]),
        {"held": dict(facts.held)},
    )


def difference(locale: Locale, value: float, usual: float) -> dict[str, str] | None:
    """``percent`` and ``direction`` of a value beside a usual one, in words; None when there is nothing to say."""
    if usual <= 0 or abs(value / usual - 1) < WORTH_A_WORD:
        return None
    direction = say(locale.language, "more" if value > usual else "less")
    return {"percent": locale.percent(abs(value / usual - 1)), "direction": direction}


def _beside_its_weekday(facts: Facts, usual: float | None) -> list[str]:
    words = difference(facts.locale, facts.sales[-1], usual or 0.0)
    if words is None or usual is None:
        return []
    return [
        say(
            facts.locale.language,
            "daily_summary.usual",
            weekdays=_plural(facts.locale, facts.last_finished_day),
            usual=facts.locale.money(usual),
            **words,
        )
    ]


def _today(facts: Facts) -> list[str]:
    expected = next((item for item in facts.forecast if item.day == facts.today), None)
    if expected is None:
        return []
    return [say(facts.locale.language, "daily_summary.today", **amounts(facts.locale, expected))]


def amounts(locale: Locale, expected: Expected) -> dict[str, str]:
    """One day's forecast and its band as the tenant writes money."""
    return {
        "yhat": locale.money(expected.yhat),
        "lower": locale.money(expected.lower),
        "upper": locale.money(expected.upper),
    }


def _running_out(facts: Facts) -> list[str]:
    until = facts.last_finished_day + timedelta(days=WEEK)
    names = [
        product.name or say(facts.locale.language, "a_product")
        for product in facts.products
        if (day := stock_out_day(product, facts)) and day <= until
    ]
    if not names:
        return []
    more = f" +{len(names) - NAMED_PRODUCTS}" if len(names) > NAMED_PRODUCTS else ""
    return [say(facts.locale.language, "daily_summary.stock", products=", ".join(names[:NAMED_PRODUCTS]) + more)]


def _plural(locale: Locale, day: date) -> str:
    """Mondays; lunes, sábados."""
    name = locale.weekday(day)
    return name if name.endswith("s") else f"{name}s"


def _capital(text: str) -> str:
    return text[:1].upper() + text[1:]
