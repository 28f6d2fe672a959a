"""The report page in words, numbers and geometry; what a browser makes of it is in tests/acceptance."""

import base64
import json
import re
import string
import zlib
from collections.abc import Mapping
from datetime import date, timedelta
from html.parser import HTMLParser
from pathlib import Path
from uuid import UUID

import numpy as np
import pytest

from app.config.ml_settings import MLSettings
from app.db.gateway import Json
from app.errors import UnknownRun
from app.services.ml.calendar import Calendar, KnownDay
from app.services.ml.hashing import input_document, pack_snapshot
from app.services.ml.notes import note
from app.services.ml.series import DailySeries
from app.services.report import write_report
from app.services.report.chart import BASE, TOP, ChartDay, draw_chart, stretches
from app.services.report.data import TenantPart, read_run
from app.services.report.formats import DASH, Locale
from app.services.report.page import render_page, view_page
from app.services.report.parts import draw_parts
from app.services.report.view import TenantView, compare, view_tenant
from app.services.report.words import WORDS
from tests.report_factory import (
    AS_OF,
    HOSTILE,
    a_days_parts,
    a_history,
    a_part,
    a_report,
    a_run,
    a_score,
    every_kind_of_tenant,
    weekday_sales,
)

ENGLISH, SPANISH = Locale("en", "EUR", "ES"), Locale("es", "EUR", "ES")
TENANT = "00000000-0000-4000-8000-000000000001"


def placeholders(text: str) -> set[str]:
    return {name for _, name, _, _ in string.Formatter().parse(text) if name}


class Elements(HTMLParser):
    """All elements of a page with their attributes."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str | None]]] = []
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attrs)))


def a_page(*parts: TenantPart) -> str:
    return render_page(view_page(a_run(*(parts or every_kind_of_tenant()))))


def texts(view: TenantView) -> str:
    return " ".join([view.headline, *view.lines, view.banner, *view.explanation.error])


# --- numbers and days ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("locale", "value", "expected"),
    [
        (ENGLISH, 1234.5, "€1,234"),
        (SPANISH, 1234567.0, "1.234.567\u00a0€"),
        (Locale("es", "MXN", "MX"), 18500.0, "$18,500"),
        (Locale("es", "ARS", "AR"), 310000.0, "$310.000"),
        (Locale("es", "PEN", "PE", cents=True), 12.5, "S/\u00a012.50"),
        (Locale("es", "CLP", "CL", cents=True), 12.0, "$12"),
        (Locale("en", "GBP", cents=True), -3.456, "\N{MINUS SIGN}£3.46"),
        (Locale("en", "CHF"), 1234.0, "CHF\u00a01,234"),
        (Locale("en"), 7.0, "7"),
        (ENGLISH, -0.2, "€0"),
    ],
)
def test_money_is_written_as_the_tenant_writes_it(locale: Locale, value: float, expected: str) -> None:
    assert locale.money(value) == expected


def test_days_are_named_in_the_tenants_language() -> None:
    day = date(2026, 11, 21)

    assert ENGLISH.day(day) == "Sat 21 Nov"
    assert SPANISH.day(day) == "sáb 21 nov"
    assert SPANISH.long_day(day) == "sábado 21 de noviembre de 2026"


def test_both_languages_say_the_same_things_with_the_same_values() -> None:
    assert set(WORDS["en"]) == set(WORDS["es"])
    for key, english in WORDS["en"].items():
        assert placeholders(english) == placeholders(WORDS["es"][key]), key


# --- words -----------------------------------------------------------------------------------------------------------


def test_the_headline_is_the_total_of_the_next_seven_days() -> None:
    view = view_tenant(a_part(), 1)

    # 90 + 100 + 110 + 120 + 150 + 200 + 0
    assert view.headline == "Next 7 days: about €770."


def test_days_and_totals_each_have_their_own_range() -> None:
    view = view_tenant(a_part(), 1)

    # The first day is a Saturday: 200, with 0.8 and 1.25 of it as bounds; a week is 770, with 0.9 and 1.1 of it.
    assert "Saturday 21 November 2026: about €200, most likely between €160 and €250." in view.lines
    assert view.lines[0] == "Most likely between €693 and €847."
    assert view.lines[1] == "Next 28 days: about €3,080. Most likely between €2,772 and €3,388."
    assert "do not add up" in view.small


def test_a_total_that_is_not_the_sum_of_its_days_says_so_beside_it() -> None:
    rare = note("rare_sales", idle="64%")
    report = a_report(total_7=900.0, total_28=3696.0, notes=[rare.as_dict()])

    english = view_tenant(a_part(report=report), 1)
    spanish = view_tenant(a_part(report=report | {"language": "es"}), 1)

    assert english.headline == "Next 7 days: about €900."
    assert english.lines[1].startswith("Next 28 days: about €3,696.")
    assert english.lines[2] == str(rare)
    assert "lo que se vende de media" in spanish.lines[2]
    assert english.explanation.notes == ()
    # Four whole weeks of history sold 3,080.
    assert compare(report, a_history(28)) == (28, 3080.0, 3696.0 / 3080.0 - 1)


def test_a_report_of_an_earlier_version_has_neither_ranges_of_totals_nor_parts() -> None:
    report = a_report()
    for day in report["forecast"]:
        del day["parts"]
    del report["totals"], report["explanation"]

    view = view_tenant(a_part(report=report), 1)

    assert not any("between" in line for line in (view.headline, view.lines[0]))
    assert view.parts is None
    assert "What each day consists of" not in a_page(a_part(report=report))


def test_a_closed_day_is_called_closed_and_not_zero() -> None:
    view = view_tenant(a_part(), 1)

    sunday = view.week[1]
    assert (sunday.closed, sunday.yhat, sunday.span) == (True, "closed", "")
    assert ("Sun 22 Nov", "closed", "", "") in view.table


def test_the_change_is_against_as_many_days_before() -> None:
    # Four whole weeks of history sold half of what is forecast.
    report, history = a_report(scale=2.0), a_history(28)

    assert compare(report, history) == (28, 4 * 770.0, 1.0)


def test_no_change_is_claimed_for_a_shop_younger_than_the_forecast() -> None:
    view = view_tenant(a_part(history=a_history(27)), 1)

    assert view.summary.change == DASH
    assert view.summary.note == "young_short"


def test_a_tenant_without_sales_is_told_what_comes_next() -> None:
    views = {part.name: view_tenant(part, 1) for part in every_kind_of_tenant()}

    assert views["Nothing yet"].chart is None
    assert "No sales yet" in texts(views["Nothing yet"])
    assert "Todavía no hay ventas" in texts(views["Nada aún"])


def test_a_failed_tenant_shows_the_error_the_next_step_and_the_forecast_that_was_kept() -> None:
    kept = view_tenant(next(part for part in every_kind_of_tenant() if part.name == "Kept"), 1)

    assert kept.chart is not None
    assert kept.banner_kind == "bad"
    assert "The one below is from before; it was kept." in texts(kept)
    assert "What to do: Try again later." in texts(kept)


def test_a_blend_is_explained_by_its_parts_the_largest_first() -> None:
    why = view_tenant(a_part(), 1).explanation.why

    assert "XGBoost, decision trees (60%) and Prophet, trend and seasons (40%)" in why


def test_candidates_that_failed_or_were_left_out_stay_in_the_table_with_their_reason() -> None:
    scores = [
        a_score("snaive"),
        a_score("prophet", "failed", "it diverged"),
        a_score("sarimax", "left_out", "too short"),
    ]
    rows = view_tenant(a_part(report=a_report(scores=scores)), 1).explanation.scores

    assert [row.remark for row in rows] == ["", "failed: it diverged", "left out: too short"]
    assert [row.mae for row in rows] == ["€12", DASH, DASH]


@pytest.mark.parametrize(("language", "word"), [("en", "compared on "), ("es", "comparado el ")])
def test_a_candidate_that_was_scored_in_an_earlier_week_says_when(language, word) -> None:
    report = a_report(language=language)
    as_of = date.fromisoformat(report["as_of"])
    scores = [
        a_score("snaive") | {"scored_through": as_of.isoformat()},
        a_score("prophet") | {"scored_through": (as_of - timedelta(days=14)).isoformat()},
    ]

    rows = view_tenant(a_part(report=report | {"scores": scores}), 1).explanation.scores

    assert rows[0].remark == ""
    assert rows[1].remark.startswith(word)
    assert str((as_of - timedelta(days=14)).day) in rows[1].remark


def test_a_spanish_shop_reads_why_and_what_to_know_in_spanish() -> None:
    report = a_report(
        language="es",
        level="single",
        reason_note=note("chosen_only", method="snaive", n=1, metric="MAE", error="12.5").as_dict(),
        notes=[note("short_history", n=9).as_dict()],
        scores=[a_score("sarimax", "left_out", "sarimax needs 120 days before the first comparison; there are 9.")],
    )

    told = view_tenant(a_part(report=report), 1).explanation

    assert told.detail == (
        "«igual que hace una semana» es el único método que se pudo probar en las últimas semanas (MAE 12.5)."
    )
    assert told.notes == ("Historia corta: 9 días. La previsión mejora con cada semana.",)
    assert told.scores[0].remark == "no participó"


def test_what_changed_is_told_in_money_and_method() -> None:
    changes = {
        "previous_as_of": "2026-11-13", "previous_run_id": None, "days": 21,
        "previous_total": 2000.0, "total": 2310.0, "chosen_before": "snaive",
    }  # fmt: skip
    told = view_tenant(a_part(report=a_report(changes=changes)), 1).explanation.changes

    assert told[0] == "For the 21 days that both cover: €2,000 before, €2,310 now (16% more)."
    assert told[1] == "The forecast before used sales up to Friday 13 November 2026."
    assert told[2] == "The method changed from “same as a week ago” to “a mixture”."


def test_days_in_a_row_with_one_name_are_one_stretch() -> None:
    days = [(AS_OF + timedelta(days=i), "promotion", "Sale") for i in (1, 2, 3, 7)]

    assert stretches(days) == [
        (AS_OF + timedelta(days=1), AS_OF + timedelta(days=3), "promotion", "Sale"),
        (AS_OF + timedelta(days=7), AS_OF + timedelta(days=7), "promotion", "Sale"),
    ]


# --- geometry --------------------------------------------------------------------------------------------------------


def chart_days(sold: list[float]) -> list[ChartDay]:
    return [ChartDay(AS_OF + timedelta(days=i), sold=value) for i, value in enumerate(sold)]


def test_bars_stand_on_zero_and_are_as_high_as_their_share_of_the_scale() -> None:
    chart = draw_chart(chart_days([50.0, 100.0]), ENGLISH)
    low, high = chart.bars

    assert high.height == pytest.approx(2 * low.height, abs=0.2)
    assert all(bar.y + bar.height == pytest.approx(BASE, abs=0.2) for bar in chart.bars)
    assert [low.x, high.x] == [6.0, 56.0]


def test_a_day_of_refunds_hangs_below_the_axis() -> None:
    up, down = draw_chart(chart_days([100.0, -50.0]), ENGLISH).bars

    assert up.y + up.height == pytest.approx(down.y, abs=0.2)
    assert up.y >= TOP
    assert down.y + down.height <= BASE


def test_one_freak_day_is_cut_off_instead_of_flattening_all_others() -> None:
    chart = draw_chart(chart_days([100.0] * 99 + [10_000.0]), ENGLISH)

    assert len(chart.clipped) == 1
    assert chart.bars[0].height > 0.5 * (BASE - TOP)


@pytest.mark.parametrize("sold", [[0.0], [0.0] * 40, [1e-7] * 5, [1e15] * 200, [-5.0] * 3])
def test_any_scale_of_sales_gives_a_chart_inside_its_frame(sold: list[float]) -> None:
    chart = draw_chart(chart_days(sold), ENGLISH)

    assert all(bar.y >= TOP and bar.y + bar.height <= BASE + 0.1 for bar in chart.bars)
    assert len(chart.money_ticks) <= 12


def test_the_parts_of_a_day_are_stacked_and_end_at_the_forecast() -> None:
    days = [ChartDay(AS_OF, yhat=60.0), ChartDay(AS_OF, yhat=0.0, closed=True)]
    parts = {"level": 100.0, "weekday": -50.0, "season": 20.0, "calendar": 0.0, "recent": -10.0}

    chart = draw_parts(days, [parts, parts], ENGLISH)

    level, season, weekday, recent, closed = chart.bars
    assert [bar.kind for bar in (level, season, weekday, recent)] == [
        "part-level", "part-season", "part-weekday", "part-recent",
    ]  # fmt: skip
    assert closed.kind == "closed"
    assert level.y + level.height == pytest.approx(chart.zero, abs=0.2)
    assert season.y + season.height == pytest.approx(level.y, abs=0.2)
    assert weekday.y == pytest.approx(chart.zero, abs=0.2)
    assert recent.y == pytest.approx(weekday.y + weekday.height, abs=0.2)
    # Upwards 120, downwards 60: what is left of them is the forecast.
    up, down = season.height + level.height, weekday.height + recent.height
    assert (up - down) / up == pytest.approx(60 / 120, abs=0.01)
    assert chart.points[0].y + 1 == pytest.approx(chart.zero - up / 2, abs=0.3)


@pytest.mark.parametrize("scale", [0.0, 1e-9, 1.0, 1e15, -1.0])
def test_any_scale_of_parts_gives_a_chart_inside_its_frame(scale: float) -> None:
    parts = {name: size * scale for name, size in a_days_parts(50.0).items()}

    chart = draw_parts([ChartDay(AS_OF, yhat=50.0 * scale)], [parts], ENGLISH)

    assert all(bar.y >= TOP and bar.y + bar.height <= BASE + 0.1 for bar in chart.bars)


def test_the_page_says_what_the_first_week_consists_of_in_the_tenants_language() -> None:
    english, spanish = (view_tenant(a_part(report=a_report(language=language)), 1).parts for language in ("en", "es"))

    assert english is not None
    assert spanish is not None
    assert english.sentence == (
        "Next 7 days: €770; €770 is 7 average days of the last weeks, €30 less for the day of the week, €48 more for "
        "the time of year and €18 less for the newest sales and what the methods make of them."
    )
    assert spanish.sentence.startswith("Próximos 7 días: 770\xa0€; 770\xa0€ son 7 días medios")
    assert json.loads(english.readouts)[1] == "Sun 22 Nov: closed"
    # A Saturday of 200: 85 over the average day, when the time of year brings 8 and the rest takes 3.
    assert english.table[0] == ("Sat 21 Nov", "€110", "€85", "€8", "€0", "\N{MINUS SIGN}€3", "€200")


def test_a_known_day_is_explained_by_its_name() -> None:
    report = a_report()
    report["forecast"][0]["parts"] |= {"calendar": 50.0, "weekday": 35.0}
    known = (KnownDay(AS_OF + timedelta(days=1), "promotion", "Black Friday"),)

    view = view_tenant(a_part(report=report, history=a_history(known=known)), 1)

    assert view.parts is not None
    assert "€50 more for Black Friday" in json.loads(view.parts.readouts)[0]


def test_every_day_of_the_chart_can_be_read_out() -> None:
    view = view_tenant(a_part(history=a_history(200)), 1)

    readouts = json.loads(view.readouts)
    assert len(readouts) == 120 + 28
    assert readouts[119] == "Fri 20 Nov: sales €150"
    assert readouts[120] == "Sat 21 Nov: forecast €200 (€160 \N{EN DASH} €250)"


# --- the page --------------------------------------------------------------------------------------------------------


def test_hostile_names_come_out_as_text() -> None:
    page = a_page()
    tags = [tag for tag, _ in Elements(page).found]

    assert HOSTILE.startswith("<script>")
    assert tags.count("script") == 1
    assert "img" not in tags
    assert "{{ 7*7 }}" in page


def test_the_page_names_no_address_and_forbids_the_network() -> None:
    page = a_page()
    elements = Elements(page).found

    policy = next(a["content"] for tag, a in elements if a.get("http-equiv") == "Content-Security-Policy")
    assert policy is not None
    assert policy.startswith("default-src 'none'")
    assert "unsafe" not in policy
    assert not [a for tag, a in elements if "src" in a or any(name.startswith("on") for name in a)]
    assert {a["href"] for tag, a in elements if tag == "link"} == {"data:,"}
    assert not re.search(r"https?://", page)


def test_every_tenant_has_one_section_that_the_overview_leads_to() -> None:
    elements = Elements(a_page()).found

    sections = [a["id"] for tag, a in elements if tag == "section"]
    links = [a["href"] for tag, a in elements if tag == "a" and a["href"] != "#top"]
    assert len(sections) == len(every_kind_of_tenant()) == len(set(sections))
    assert links == [f"#{section}" for section in sections]


def test_the_page_says_how_many_shops_it_leaves_out() -> None:
    page = render_page(view_page(a_run(a_part(), total=501)))

    assert "Only the first 1 of 501 shops" in page


def test_the_pages_own_language_is_that_of_most_shops() -> None:
    spanish, english = a_part("Uno", report=a_report(language="es")), a_part("One")

    assert '<html lang="es">' in a_page(spanish, spanish, english)
    assert '<html lang="en">' in a_page(spanish, english, english)


# --- reading ---------------------------------------------------------------------------------------------------------


class LedgerOfOneRun:
    """A gateway that answers what the database would for one run with one tenant."""

    name = "fake"

    def __init__(self, item: dict[str, object], forecast: dict[str, object] | None = None) -> None:
        self.item = {"tenant_id": TENANT, "name": "Shop", "reason": "", "error": None, "report": None} | item
        self.forecast = forecast
        start = AS_OF - timedelta(days=27)
        document = input_document(
            DailySeries(start, np.array(weekday_sales(start, 28))),
            Calendar("ES"), MLSettings(), stale=False, tenant={}, code_version="1",
        )  # fmt: skip
        self.snapshot = pack_snapshot(document)

    def call(self, function: str, params: Mapping[str, object]) -> Json:
        answers: dict[str, object] = {
            "ml_list_runs": [{"run_id": str(UUID(int=1)), "kind": "retrain"}],
            "ml_show_run": {
                "run": {"run_id": str(UUID(int=1)), "created_at": "2026-11-21T02:00:00Z", "code_version": "1"},
                "items": [] if params.get("p_after") else [self.item],
            },
            "ml_list_tenants": [] if params.get("p_after") else [{"tenant_id": TENANT, "country": "ES"}],
            "ml_read_forecast": {"report": self.forecast},
            "ml_read_snapshot": {"payload": self.snapshot, "as_of": AS_OF.isoformat()},
        }
        return answers[function]  # type: ignore[return-value]

    def close(self) -> None:
        """Nothing to give back."""


def test_history_comes_from_the_snapshot_that_the_forecast_was_made_from() -> None:
    run = read_run(LedgerOfOneRun({"state": "done", "report": a_report()}), None, 10)

    history = run.parts[0].history
    assert history is not None
    assert (history.end, sum(history.y)) == (AS_OF, 4 * 770.0)


def test_an_unchanged_tenant_shows_the_forecast_that_still_stands() -> None:
    own = a_report(status="unchanged", forecast=[])
    run = read_run(LedgerOfOneRun({"state": "skipped", "report": own}, a_report()), None, 10)

    part = run.parts[0]
    assert part.state == "unchanged"
    assert part.report is not None
    assert len(part.report["forecast"]) == 28
    assert run.counts["done"] == 1


def test_a_failed_tenant_without_any_forecast_has_none() -> None:
    run = read_run(LedgerOfOneRun({"state": "failed", "error": {"message": "Gone."}}, None), None, 10)

    assert (run.parts[0].state, run.parts[0].report) == ("failed", None)


def test_a_damaged_snapshot_costs_the_history_and_not_the_page() -> None:
    ledger = LedgerOfOneRun({"state": "done", "report": a_report()})
    ledger.snapshot = base64.b64encode(zlib.compress(b"[]")).decode()

    part = read_run(ledger, None, 10).parts[0]
    assert part.history is None
    assert view_tenant(part, 1).chart is not None


def test_a_report_of_no_run_says_how_to_make_one(tmp_path: Path) -> None:
    class EmptyLedger(LedgerOfOneRun):
        def call(self, function: str, params: Mapping[str, object]) -> Json:
            return [] if function == "ml_list_runs" else None

    with pytest.raises(UnknownRun, match="tenantcast retrain"):
        write_report(EmptyLedger({"state": "done"}), None, tmp_path / "report.html")


def test_the_page_is_written_whole_into_the_file_that_was_asked_for(tmp_path: Path) -> None:
    ledger = LedgerOfOneRun({"state": "done", "report": a_report()})

    page = write_report(ledger, None, tmp_path / "new" / "week.html")

    assert page == tmp_path / "new" / "week.html"
    assert page.read_text(encoding="utf-8").rstrip().endswith("</html>")
    assert [file.name for file in page.parent.iterdir()] == ["week.html"]
