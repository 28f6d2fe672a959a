"""The rules that are looked at every few minutes: pure functions from facts to what is worth saying.

Each speaks at most once per subject and window; the outbox refuses a key that it has had.
"""

import math
from collections.abc import Callable
from datetime import date, timedelta
from itertools import pairwise

from app.services.notifications.facts import DAYS, Facts, Product
from app.services.notifications.notice import Notice, iso_week
from app.services.notifications.texts import say

WEEK = 7
USUAL_WEEKS = 4
MAX_SILENCE = WEEK * USUAL_WEEKS  # days
MAX_PRODUCTS = 20  # the most urgent ones: a shop with a thousand empty shelves is told of those


def due_notices(facts: Facts) -> list[Notice]:
    """Everything that the facts are worth saying now, by the rules that the tenant has on."""
    stopped = _if_on(facts, "data_stopped", data_stopped)
    # Without any sales the drop says the same a second time.
    dropped = [] if stopped else _if_on(facts, "sales_drop", sales_drop)
    return [*stopped, *dropped, *_if_on(facts, "low_stock", low_stock)]


def data_stopped(facts: Facts) -> list[Notice]:
    """No sale for at least ``silent_days`` finished days, and for longer than any gap of the last weeks.

    Silence of more than four weeks is no news: whoever stopped that long ago knows it (and the message that said so may
    have been cleaned up, with its key).
    """
    if facts.last_sale_day is None:
        return []
    silent = (facts.last_finished_day - facts.last_sale_day).days
    gap = longest_gap(facts.rows)
    if not facts.rules.number("data_stopped", "silent_days") <= silent <= MAX_SILENCE or silent <= gap:
        return []
    locale, day = facts.locale, facts.last_sale_day
    return [
        Notice(
            "data_stopped",
            day.isoformat(),
            "",
            say(locale.language, "data_stopped.title", day=locale.day(day)),
            say(locale.language, "data_stopped.body", n=str(silent), usual=str(gap)),
            {"last_sale_day": day.isoformat(), "silent_days": silent, "longest_gap": gap},
        )
    ]


def longest_gap(rows: tuple[int, ...]) -> int:
    """The longest run of days without rows between two days with rows; days."""
    with_rows = [index for index, n in enumerate(rows) if n]
    return max((after - before - 1 for before, after in pairwise(with_rows)), default=0)


def sales_drop(facts: Facts) -> list[Notice]:
    """The last 7 finished days brought ``drop_percent`` less than a usual week of the four weeks before; weekly.

    A week without one sale is silence, not a drop.
    """
    needed = WEEK * (1 + USUAL_WEEKS)
    first = facts.first_sale_day
    if first is None or len(facts.sales) < needed or first > facts.last_finished_day - timedelta(days=needed - 1):
        return []
    recent = math.fsum(facts.sales[-WEEK:])
    usual = math.fsum(facts.sales[-needed:-WEEK]) / USUAL_WEEKS
    if (
        usual <= 0
        or not any(facts.rows[-WEEK:])
        or 100 * recent > usual * (100 - facts.rules.number("sales_drop", "drop_percent"))
    ):
        return []
    locale, drop = facts.locale, 1 - recent / usual
    return [
        Notice(
            "sales_drop",
            "",
            iso_week(facts.last_finished_day),
            say(locale.language, "sales_drop.title", percent=locale.percent(drop)),
            say(locale.language, "sales_drop.body", recent=locale.money(recent), usual=locale.money(usual)),
            {"recent": recent, "usual": usual, "drop": drop, "until": facts.last_finished_day.isoformat()},
        )
    ]


def low_stock(facts: Facts) -> list[Notice]:
    """Products down to ``min_stock`` units, or gone within ``days_ahead`` days by the forecast; weekly each."""
    least = facts.rules.number("low_stock", "min_stock")
    until = facts.last_finished_day + timedelta(days=int(facts.rules.number("low_stock", "days_ahead")))
    dated = [(stock_out_day(product, facts), product) for product in facts.products]
    urgent = [(day, product) for day, product in dated if product.stock <= least or (day and day <= until)]
    urgent.sort(key=lambda item: (item[0] or date.max, item[1].product_id))
    return [_low(facts, product, day) for day, product in urgent[:MAX_PRODUCTS]]


def stock_out_day(product: Product, facts: Facts) -> date | None:
    """The first day at whose end nothing is left; today when nothing is; None when it lasts beyond the horizon.

    Units per day follow the forecast: on a day that is expected to bring twice the usual sales, twice the units go.
    Beyond the forecast, or without one, they go at the usual rate.
    """
    usual = math.fsum(facts.sales[-28:]) / max(len(facts.sales[-28:]), 1)
    ahead = {expected.day: expected.yhat for expected in facts.forecast}
    left = product.stock
    for step in range(DAYS + WEEK * USUAL_WEEKS):
        day = facts.today + timedelta(days=step)
        share = max(ahead[day], 0.0) / usual if day in ahead and usual > 0 else 1.0
        left -= product.rate * share
        if left <= 1e-9 or product.stock <= 0:  # noqa: PLR2004 - what is left of a sum of floats
            return day
    return None


def _low(facts: Facts, product: Product, day: date | None) -> Notice:
    locale, language = facts.locale, facts.locale.language
    name = product.name or say(language, "a_product")
    stock = locale.number(product.stock, 0 if float(product.stock).is_integer() else 1)
    if product.stock <= 0:
        title = say(language, "low_stock.gone", product=name)
    elif day is None:
        title = say(language, "low_stock.low", product=name, stock=stock)
    else:
        title = say(language, "low_stock.title", product=name, day=locale.day(day))
    return Notice(
        "low_stock",
        product.product_id,
        iso_week(facts.today),
        title,
        say(language, "low_stock.body", stock=stock, rate=locale.number(product.rate, 1)),
        {
            "product_id": product.product_id,
            "stock": product.stock,
            "units_per_day": round(product.rate, 4),
            "stock_out_day": day.isoformat() if day else None,
        },
    )


def _if_on(facts: Facts, rule: str, judge: Callable[[Facts], list[Notice]]) -> list[Notice]:
    return judge(facts) if facts.rules.is_on(rule) else []
