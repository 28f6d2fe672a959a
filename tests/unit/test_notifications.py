"""Rules, texts and digests on numbers made by hand."""

import json
import string
from collections.abc import Mapping
from dataclasses import replace
from datetime import date, timedelta
from types import MappingProxyType
from typing import Any, cast

import pytest

from app.config.ml_settings import MLSettings
from app.errors import InvalidOverride
from app.services.ml.results import TrainingReport
from app.services.ml.training_report import empty_report
from app.services.notifications.config import NUMBERS, RuleBook, require_rule
from app.services.notifications.digest import daily_summary, digest
from app.services.notifications.facts import Expected, Facts, Product
from app.services.notifications.notice import KINDS, MAX_TITLE, Notice, clip, iso_week
from app.services.notifications.publishing import publish_notices
from app.services.notifications.rules import due_notices, longest_gap, low_stock, sales_drop, stock_out_day
from app.services.notifications.texts import TEXTS
from app.services.report.formats import Locale, locale_of

FRIDAY = date(2026, 11, 20)
NBSP = "\N{NO-BREAK SPACE}"


def facts(sales: list[float], **changes: Any) -> Facts:
    """A shop that has sold ``sales`` per finished day up to Friday 20 November 2026, in euros, in English."""
    start = FRIDAY - timedelta(days=len(sales) - 1)
    sold = [start + timedelta(days=index) for index, value in enumerate(sales) if value]
    made = Facts(
        locale=Locale("en", "EUR", "IE"),
        last_finished_day=FRIDAY,
        start=start,
        sales=tuple(sales),
        rows=tuple(int(value > 0) for value in sales),
        first_sale_day=sold[0] if sold else None,
        last_sale_day=sold[-1] if sold else None,
    )
    return replace(made, **changes)


def rule_book(off: tuple[str, ...] = (), **numbers: float) -> RuleBook:
    """Numbers by the name of their setting, which are unique over the rules."""
    known = {(rule, name): numbers[name] for rule, names in NUMBERS.items() for name in names if name in numbers}
    return RuleBook(frozenset(off), MappingProxyType(known))


def kinds(notices: list[Notice]) -> list[str]:
    return [notice.kind for notice in notices]


# --- sales drop ------------------------------------------------------------------------------------------------------


def test_a_week_that_brought_forty_percent_less_than_four_usual_ones_is_told_once_for_its_iso_week() -> None:
    found = sales_drop(facts([100.0] * 35 + [60.0] * 7))

    assert [notice.dedupe_key for notice in found] == ["sales_drop:2026-W47"]
    assert found[0].title == "Sales are down by 40%"
    assert found[0].body == "The last 7 days brought €420; a usual week of the four before brought €700."
    assert found[0].payload == {
        "recent": 420.0, "usual": 700.0, "drop": pytest.approx(0.4), "until": "2026-11-20",
    }  # fmt: skip


@pytest.mark.parametrize(("last_week", "told"), [(69.9, True), (70.0, True), (70.1, False), (150.0, False)])
def test_the_drop_speaks_from_thirty_percent_on(last_week: float, told: bool) -> None:
    assert bool(sales_drop(facts([100.0] * 35 + [last_week] * 7))) is told


def test_a_tenant_sets_its_own_percentage() -> None:
    dropped = facts([100.0] * 35 + [60.0] * 7)

    assert sales_drop(replace(dropped, rules=rule_book(drop_percent=40)))
    assert not sales_drop(replace(dropped, rules=rule_book(drop_percent=41)))


@pytest.mark.parametrize("sales", [[0.0] * 8 + [100.0] * 27 + [1.0] * 7, [100.0] * 20, [0.0] * 42, [-5.0] * 42])
def test_without_five_weeks_of_sales_nothing_can_drop(sales: list[float]) -> None:
    assert sales_drop(facts(sales)) == []


# --- data stopped ----------------------------------------------------------------------------------------------------


def silent_for(days: int, before: list[float]) -> Facts:
    return facts(before + [0.0] * days)


@pytest.mark.parametrize(("silent", "told"), [(2, False), (3, True), (28, True), (29, False)])
def test_three_days_without_a_sale_are_told_once_per_silence(silent: int, told: bool) -> None:
    found = due_notices(silent_for(silent, [100.0] * (42 - silent)))

    last = FRIDAY - timedelta(days=silent)
    assert kinds(found) == (["data_stopped"] if told else [])
    assert [notice.dedupe_key for notice in found] == ([f"data_stopped:{last}"] if told else [])


def test_a_shop_that_sells_at_weekends_only_is_not_told_on_thursdays() -> None:
    weekends = [100.0 if index % 7 < 2 else 0.0 for index in range(37)]  # the last of them was a sale

    assert longest_gap(tuple(int(value > 0) for value in weekends)) == 5
    assert kinds(due_notices(silent_for(5, weekends))) == []
    assert kinds(due_notices(silent_for(6, weekends))) == ["data_stopped"]


def test_a_shop_that_stopped_long_ago_or_never_sold_is_not_told() -> None:
    long_ago = facts([0.0] * 42, last_sale_day=FRIDAY - timedelta(days=200), first_sale_day=date(2020, 1, 1))

    assert due_notices(long_ago) == []
    assert due_notices(facts([0.0] * 42)) == []


def test_a_sale_of_today_ends_the_silence() -> None:
    silent = silent_for(5, [100.0] * 37)

    assert kinds(due_notices(silent)) == ["data_stopped"]
    assert kinds(due_notices(replace(silent, last_sale_day=FRIDAY + timedelta(days=1)))) == ["sales_drop"]


def test_silence_is_told_as_silence_and_not_as_a_drop_too() -> None:
    stopped = silent_for(6, [100.0] * 36)

    assert sales_drop(stopped)
    assert not sales_drop(silent_for(7, [100.0] * 35))  # a week of nothing is no drop
    assert kinds(due_notices(stopped)) == ["data_stopped"]


def test_a_rule_that_is_off_says_nothing() -> None:
    stopped = replace(silent_for(6, [100.0] * 36), rules=rule_book(off=("data_stopped",)))

    assert kinds(due_notices(stopped)) == ["sales_drop"]


# --- stock -----------------------------------------------------------------------------------------------------------


def product(stock: float, rate: float = 2.0, name: str = "Bread") -> Product:
    return Product("p1", name, stock, rate)


@pytest.mark.parametrize(
    ("stock", "day"),
    [
        (0.0, FRIDAY + timedelta(days=1)),  # gone: today
        (2.0, FRIDAY + timedelta(days=1)),  # 2 a day: gone by tonight
        (2.1, FRIDAY + timedelta(days=2)),
        (10.0, FRIDAY + timedelta(days=5)),
        (1000.0, None),
    ],
)
def test_without_a_forecast_stock_goes_at_the_usual_rate(stock: float, day: date | None) -> None:
    assert stock_out_day(product(stock), facts([100.0] * 42)) == day


def test_stock_goes_faster_on_days_that_are_forecast_to_sell_more() -> None:
    # Usual sales are 100 a day with 2 units; 300 are forecast for the first day (6 units), 50 for the next (1 unit).
    ahead = [Expected(FRIDAY + timedelta(days=1), 300.0, 0, 0), Expected(FRIDAY + timedelta(days=2), 50.0, 0, 0)]
    busy = facts([100.0] * 42, forecast=tuple(ahead))

    assert stock_out_day(product(6.0), busy) == FRIDAY + timedelta(days=1)
    assert stock_out_day(product(7.0), busy) == FRIDAY + timedelta(days=2)
    assert stock_out_day(product(8.0), busy) == FRIDAY + timedelta(days=3)


def test_a_product_that_runs_out_within_a_week_is_told_with_the_day() -> None:
    found = low_stock(facts([100.0] * 42, products=(product(10.0),)))

    assert [notice.dedupe_key for notice in found] == ["low_stock:p1:2026-W47"]
    assert found[0].title == "Bread runs out around Wed 25 Nov"
    assert found[0].body == "In stock: 10. Lately about 2.0 a day were sold."


@pytest.mark.parametrize(("stock", "told"), [(14.0, True), (14.1, False)])
def test_a_week_ahead_is_as_far_as_the_rule_looks(stock: float, told: bool) -> None:
    assert bool(low_stock(facts([100.0] * 42, products=(product(stock),)))) is told


def test_an_own_minimum_speaks_before_the_date_does() -> None:
    shop = facts([100.0] * 42, products=(product(500.0),), rules=rule_book(min_stock=500))

    assert [notice.title for notice in low_stock(shop)] == ["Bread is low: 500 left"]


def test_what_is_gone_is_said_to_be_gone() -> None:
    assert [n.title for n in low_stock(facts([1.0] * 42, products=(product(0.0),)))] == ["Bread is out of stock"]


def test_of_a_thousand_empty_shelves_the_twenty_most_urgent_are_told() -> None:
    many = tuple(Product(f"p{n:04d}", "x", float(n), 100.0) for n in range(1000))

    found = low_stock(facts([100.0] * 42, products=many))

    assert [notice.subject for notice in found] == [f"p{n:04d}" for n in range(20)]


# --- the morning -----------------------------------------------------------------------------------------------------


def test_the_summary_compares_the_day_with_its_weekday_and_looks_ahead() -> None:
    sales = [100.0] * 42
    sales[-8] = sales[-15] = sales[-22] = sales[-29] = 200.0  # the four Fridays before
    sales[-1] = 250.0
    today = Expected(FRIDAY + timedelta(days=1), 120.0, 80.0, 160.0)

    found = daily_summary(facts(sales, forecast=(today,), products=(product(3.0),)), "2026-11-21")

    assert found is not None
    assert found.dedupe_key == "daily_summary:2026-11-21"
    assert found.title == "Fri 20 Nov: sales of €250"
    assert found.body.splitlines() == [
        "25% more than on the last four Fridays (€200).",
        "Today: about €120, most likely between €80 and €160.",
        "Runs out within a week: Bread.",
    ]


def test_the_summary_speaks_spanish_to_a_tenant_of_spain() -> None:
    sales = [100.0] * 41 + [50.0]
    spanish = facts(sales, locale=locale_of({"language": "es-ES", "currency": "EUR", "country": "ES"}, typical=1000))

    found = daily_summary(spanish, "2026-11-21")

    assert found is not None
    assert found.title == f"Vie 20 nov: ventas de 50{NBSP}€"
    assert found.body == f"Un 50{NBSP}% menos que en los cuatro últimos viernes (100{NBSP}€)."


def test_a_day_without_sales_is_summed_up_as_such_and_a_shop_without_any_gets_none() -> None:
    quiet = daily_summary(facts([100.0] * 20 + [0.0]), "s")

    assert quiet is not None
    assert quiet.title == "Fri 20 Nov: no sales"
    assert daily_summary(facts([0.0] * 42), "s") is None
    assert daily_summary(facts([9.0] * 42, rules=rule_book(off=("daily_summary",))), "s") is None


def test_a_digest_counts_what_was_held_back_by_kind() -> None:
    found = digest(facts([1.0] * 42, held={"low_stock": 1200, "anomaly": 3}), "2026-11-21")

    assert found is not None
    assert found.title == "1,203 more messages since the last summary"
    assert found.body.splitlines()[1:] == ["unusual day: 3", "low stock: 1,200"]
    assert digest(facts([1.0] * 42), "2026-11-21") is None


# --- what a publish says ---------------------------------------------------------------------------------------------


def report(**changes: Any) -> TrainingReport:
    made = empty_report("aaaaaaaa-0000-4000-8000-000000000001", None, MLSettings())
    told: dict[str, Any] = {
        "as_of": "2026-11-20", "language": "en", "currency": "USD", "country": "US", "total_28": 2800.0,
        "metrics": {"mape": 12.0},
        "forecast": [
            {"date": f"2026-11-{21 + n}", "yhat": 100.0, "yhat_lower": 90.0, "yhat_upper": 110.0} for n in range(9)
        ],
    }  # fmt: skip
    return cast("TrainingReport", {**made, **told, **changes})


def test_a_publish_says_that_the_forecast_is_ready_and_how_it_changed() -> None:
    changed = {"total": 900.0, "previous_total": 600.0, "days": 9}

    found = publish_notices(report(changes=changed), MLSettings())

    assert [row["dedupe_key"] for row in found] == ["forecast_ready:2026-11-20"]
    assert found[0]["title"] == "New forecast: about $2,800 in the next 9 days"
    assert found[0]["body"].splitlines() == [
        "Sat 21 Nov: about $100, most likely between $90 and $110.",
        "That is 50% more than thought before for the same days.",
    ]


def test_only_unusual_days_of_the_last_three_are_news() -> None:
    days = [{"date": f"2026-11-{day}", "y": 9.0, "expected": 100.0, "score": -6.0} for day in ("17", "18", "20")]

    found = publish_notices(report(anomalies=days), MLSettings())

    assert [row["dedupe_key"] for row in found if row["kind"] == "anomaly"] == [
        "anomaly:2026-11-18", "anomaly:2026-11-20",
    ]  # fmt: skip
    assert found[-1]["body"] == "Sales were $9; about $100 were to be expected."


@pytest.mark.parametrize(("mape", "told"), [(50.0, False), (50.1, True)])
def test_an_error_above_the_limit_is_told_once_a_week(mape: float, told: bool) -> None:
    found = publish_notices(report(metrics={"mape": mape}), MLSettings(error_alert_mape=50.0))

    assert [row["dedupe_key"] for row in found if row["kind"] == "high_error"] == (
        ["high_error:2026-W47"] if told else []
    )


@pytest.mark.parametrize("size", [1e-300, 1e15, 1.7e308])
def test_absurd_numbers_never_stop_a_publish(size: float) -> None:
    odd = report(
        metrics={"mape": size}, total_28=size, changes={"total": size, "previous_total": 1e-300, "days": 1},
        anomalies=[{"date": "2026-11-20", "y": -size, "expected": size, "score": size}],
        forecast=[{"date": "2026-11-21", "yhat": size, "yhat_lower": 0.0, "yhat_upper": size}],
        currency="x" * 1000, country="??", language="\x00",
    )  # fmt: skip

    for row_ in publish_notices(odd, MLSettings()):
        assert len(row_["title"].encode()) <= 400
        assert len(row_["body"].encode()) <= 10_000
        assert "\x00" not in row_["title"] + row_["body"]
        json.dumps(row_, allow_nan=False)


def test_a_forecast_after_the_sales_have_stopped_is_no_good_news() -> None:
    assert publish_notices(report(stale=True), MLSettings()) == []


def test_a_report_without_a_forecast_says_nothing() -> None:
    assert publish_notices(report(forecast=[]), MLSettings()) == []


# --- configuration, keys, texts --------------------------------------------------------------------------------------


def row(rule: str, channel: str = "in_app", *, enabled: bool = True, **settings: object) -> Mapping[str, Any]:
    return {"rule": rule, "channel": channel, "enabled": enabled, "settings": settings}


@pytest.mark.parametrize("bad", ["40", True, None, float("nan"), 1e400, -1, 101, [40], {}])
def test_a_stored_number_that_cannot_be_used_leaves_the_default(bad: object) -> None:
    book = RuleBook.from_rows([row("sales_drop", drop_percent=bad), row("data_stopped", enabled=False, other=1)])

    assert book.number("sales_drop", "drop_percent") == 30
    assert not book.is_on("data_stopped")
    assert book.is_on("sales_drop")


def test_only_the_row_of_the_app_decides_whether_a_rule_speaks() -> None:
    book = RuleBook.from_rows([row("sales_drop", "email", enabled=False, drop_percent=90)])

    assert book.is_on("sales_drop")
    assert book.number("sales_drop", "drop_percent") == 30


@pytest.mark.parametrize(
    ("rule", "channel", "settings"),
    [
        ("nonsense", "in_app", {}),
        ("*", "in_app", {}),
        ("sales_drop", "pigeon", {}),
        ("sales_drop", "email", {"drop_percent": 40}),
        ("sales_drop", "in_app", {"drop_percent": 0}),
        ("sales_drop", "in_app", {"min_stock": 1}),
    ],
)
def test_what_is_no_rule_channel_or_setting_is_refused(rule: str, channel: str, settings: dict[str, object]) -> None:
    with pytest.raises(InvalidOverride):
        require_rule(rule, channel, settings)


def test_every_rule_on_every_channel_can_be_configured() -> None:
    for kind in KINDS:
        require_rule(kind, "in_app", {name: number.default for name, number in NUMBERS.get(kind, {}).items()})
    require_rule("*", "email", {})


def test_both_languages_have_the_same_sentences_with_the_same_gaps() -> None:
    def gaps(text: str) -> set[str]:
        return {name for _, name, _, _ in string.Formatter().parse(text) if name}

    english, spanish = TEXTS["en"], TEXTS["es"]

    assert english.keys() == spanish.keys()
    assert {key for key in english if gaps(english[key]) != gaps(spanish[key])} == set()
    assert {f"name.{kind}" for kind in KINDS} <= english.keys()


def test_a_text_is_cut_at_whole_characters() -> None:
    assert clip("ñ" * 300, MAX_TITLE) == "ñ" * 198 + "…"
    assert len(clip("ñ" * 300, MAX_TITLE).encode()) <= MAX_TITLE
    assert clip("short\x00", MAX_TITLE) == "short"


def test_a_name_with_line_breaks_cannot_add_a_header_to_a_mail() -> None:
    row_ = Notice("low_stock", "p", "", "Bread\r\nBcc: x@example.com\x1b[2J is out", "Line 1\nLine 2").as_row()

    assert row_["title"] == "Bread  Bcc: x@example.com [2J is out"
    assert row_["body"] == "Line 1\nLine 2"


def test_a_very_long_subject_still_makes_a_key_of_its_own() -> None:
    one, other = (Notice("low_stock", "x" * 5000 + end, "2026-W47", "", "") for end in "ab")

    assert one.dedupe_key != other.dedupe_key
    assert len(one.dedupe_key) < 100


def test_the_iso_week_of_new_year_belongs_to_its_thursday() -> None:
    assert (iso_week(date(2027, 1, 1)), iso_week(date(2026, 11, 20))) == ("2026-W53", "2026-W47")
