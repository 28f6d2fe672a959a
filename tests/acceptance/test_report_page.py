"""The report page in a real browser: it needs no network, fits a desktop and a phone, and hostile names stay inert."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Dialog, Page

from app.services.report.page import write_page
from tests.report_factory import a_part, a_run, every_kind_of_tenant
from tests.servers.browser import running_browser

DESKTOP, PHONE = (1280, 900), (390, 844)
OPEN_ALL = "for (const d of document.querySelectorAll('details')) d.open = true"


@dataclass
class Visit:
    """An open page with everything that it complained about or asked for."""

    page: Page
    complaints: list[str] = field(default_factory=list)
    requests: list[str] = field(default_factory=list)

    def refuse(self, dialog: Dialog) -> None:
        self.complaints.append(dialog.message)
        dialog.dismiss()


@pytest.fixture
def browser() -> Iterator[Browser]:
    """One per test: the browser that a bare machine gets is a single process, which does not outlive a closed page."""
    with running_browser() as running:
        yield running


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_page(a_run(*every_kind_of_tenant()), tmp_path_factory.mktemp("report") / "report.html")


@pytest.fixture(params=[DESKTOP, PHONE], ids=["desktop", "phone"])
def visit(request: pytest.FixtureRequest, browser: Browser, report: Path) -> Iterator[Visit]:
    for visit in visiting(browser, report, request.param):
        visit.page.evaluate(OPEN_ALL)
        yield visit


def visiting(browser: Browser, report: Path, size: tuple[int, int]) -> Iterator[Visit]:
    context = browser.new_context(viewport={"width": size[0], "height": size[1]})
    visit = Visit(context.new_page())
    visit.page.on("console", lambda message: visit.complaints.append(message.text))
    visit.page.on("pageerror", lambda error: visit.complaints.append(str(error)))
    visit.page.on("dialog", visit.refuse)
    visit.page.on("request", lambda request: visit.requests.append(request.url))
    visit.page.goto(report.as_uri())
    yield visit


def test_the_page_loads_without_a_complaint_and_asks_for_nothing_but_itself(visit: Visit, report: Path) -> None:
    visit.page.mouse.wheel(0, 100_000)
    visit.page.wait_for_timeout(100)

    assert visit.complaints == []
    assert [url for url in visit.requests if not url.startswith("data:")] == [report.as_uri()]


def test_every_forecast_tenant_has_a_chart_with_bars_one_can_see(visit: Visit) -> None:
    charts = visit.page.locator(".shop svg.chart:not(.parts)").all()

    assert len(charts) == sum(part.report is not None for part in every_kind_of_tenant())
    for chart in charts:
        heights = chart.locator("rect.sold, rect.range").evaluate_all(
            "bars => bars.map(bar => bar.getBoundingClientRect().height)"
        )
        assert len(heights) >= 20
        assert max(heights) > 60


def test_nothing_sticks_out_to_the_side(visit: Visit) -> None:
    widths = visit.page.evaluate("[document.documentElement.scrollWidth, innerWidth]")

    assert widths[0] <= widths[1]


def test_hostile_names_run_nothing_and_are_shown_as_text(visit: Visit) -> None:
    visit.page.wait_for_timeout(100)

    assert visit.page.evaluate("window.hacked") is None
    assert visit.page.locator("main img, main script").count() == 0
    assert visit.page.get_by_role("heading", name="<script>window.hacked=1</script>").count() == 1


def test_the_policy_stops_even_a_script_that_gets_onto_the_page(visit: Visit) -> None:
    visit.page.evaluate(
        "() => { const s = document.createElement('script'); s.textContent = 'hacked = 2'; document.body.append(s) }"
    )
    refused = visit.page.evaluate("fetch('http://127.0.0.1:9/').then(() => 'went out', () => 'refused')")

    assert visit.page.evaluate("window.hacked") is None
    assert refused == "refused"
    assert any("Content Security Policy" in text for text in visit.complaints)


def test_searching_hides_the_other_shops_whatever_the_accents(visit: Visit) -> None:
    visit.page.get_by_role("searchbox").fill("panaderia")

    assert visit.page.locator(".shop:visible h2").all_inner_texts() == ["Panadería"]
    assert visit.page.locator(".overview tbody tr:visible").count() == 1

    visit.page.get_by_role("searchbox").fill("zzz")

    assert visit.page.locator("#no-match").is_visible()


def test_pointing_at_a_day_reads_it_out_and_the_arrows_move_on(visit: Visit) -> None:
    section = visit.page.locator(".shop", has=visit.page.get_by_role("heading", name="Bakery"))
    chart = section.locator("svg.chart:not(.parts)")
    chart.scroll_into_view_if_needed()
    box = chart.bounding_box()
    assert box is not None

    visit.page.mouse.move(box["x"] + box["width"] * 120.5 / 148, box["y"] + 150)

    # 120 days of history, so the 121st day is the first of the forecast.
    assert section.locator(".readout").first.inner_text() == "Sat 21 Nov: forecast €200 (€160 \N{EN DASH} €250)"

    chart.focus()
    visit.page.keyboard.press("ArrowLeft")

    assert section.locator(".readout").first.inner_text() == "Fri 20 Nov: sales €150"


def test_what_a_day_consists_of_is_drawn_and_read_out(visit: Visit) -> None:
    section = visit.page.locator(".shop", has=visit.page.get_by_role("heading", name="Bakery"))
    chart = section.locator("svg.parts")
    colours = chart.locator("rect[class^=part-]").evaluate_all("bars => bars.map(bar => getComputedStyle(bar).fill)")
    legend = section.locator("details.parts .legend i").evaluate_all("keys => keys.map(k => k.offsetHeight)")

    # 28 days without four Sundays and a closure: a level, a weekday, a season and a rest each.
    assert len(colours) == 4 * 23
    assert len(set(colours)) == 4
    assert min(legend) > 0

    chart.focus()
    visit.page.keyboard.press("ArrowLeft")

    # The last day ahead: a Friday of 150, 35 above the average day once the others are taken off.
    assert (
        section.locator("details.parts .readout")
        .inner_text()
        .startswith(
            "Fri 18 Dec: €150; €110 is an average day of the last weeks, €35 more for the day of the week, €8 more for"
        )
    )
    assert section.locator(".sentence").inner_text().startswith("Next 7 days: €770; €770 is 7 average days")


def test_the_page_can_be_read_without_any_script(browser: Browser, report: Path) -> None:
    context = browser.new_context(java_script_enabled=False)
    page = context.new_page()
    page.goto(report.as_uri())

    section = page.locator("#shop-1")
    assert section.locator(".headline").inner_text() == "Next 7 days: about €770."
    assert section.locator("svg.chart rect.sold").count() > 80


def test_three_hundred_shops_are_still_one_usable_page(browser: Browser, tmp_path: Path) -> None:
    run = a_run(*(a_part(f"Shop {number}") for number in range(300)))
    report = write_page(run, tmp_path / "many.html")

    for visit in visiting(browser, report, DESKTOP):
        visit.page.get_by_role("link", name="Shop 299", exact=True).click()

        assert visit.page.locator("#shop-300").is_visible()
        assert visit.complaints == []
    assert report.stat().st_size < 20_000_000
