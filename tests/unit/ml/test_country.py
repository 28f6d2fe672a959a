"""A country is suggested where its public holidays show, and nothing is suggested by chance."""

from datetime import date

import numpy as np
import pytest

from app.services.ml.calendar import Calendar
from app.services.ml.country import COUNTRIES, note_on_country, suggest_country
from app.services.ml.series import DailySeries
from tests.factories import WEEK

START = date(2023, 1, 2)  # a Monday
YEARS_3 = 1095


def shop(country: str, factor: float, n_days: int = YEARS_3, seed: int = 1, noise: float = 0.15) -> DailySeries:
    """A weekly shop that sells ``factor`` times the usual on the public holidays of ``country``."""
    random = np.random.default_rng(seed)
    days = Calendar(country).holidays(START, n_days)
    sales = np.resize(WEEK, n_days) * random.normal(1.0, noise, n_days) * np.where(days, factor, 1.0)
    return DailySeries(START, np.maximum(sales, 0.0))


@pytest.mark.parametrize("country", ["DE", "EC", "JP", "MX", "AR", "US", "FR", "PL"])
def test_a_shop_that_closes_on_public_holidays_shows_its_country(country):
    assert suggest_country(shop(country, factor=0.0)) == country


@pytest.mark.parametrize("country", ["JP", "CO"])
def test_a_restaurant_that_is_full_on_public_holidays_shows_it_too(country):
    assert suggest_country(shop(country, factor=1.8)) == country


def test_holidays_of_a_region_do_not_make_it_another_country():
    """Bavaria has the holidays of Austria beside those of Germany."""
    assert suggest_country(shop("DE-BY", factor=0.0)) in ("DE", "")


def test_sales_that_know_no_holidays_suggest_nothing():
    assert {suggest_country(shop("", 1.0, seed=seed)) for seed in range(20)} == {""}


def test_holidays_in_wrong_weeks_suggest_nothing():
    """What is odd recurs, but not on anyone's holidays: a calendar moved by whole weeks."""
    german = shop("DE", factor=0.0)

    assert {suggest_country(DailySeries(START, np.roll(german.y, 7 * weeks))) for weeks in (5, 9, 17, 31)} == {""}


def test_thirteen_months_are_needed():
    assert suggest_country(shop("DE", 0.0, n_days=399)) == ""


def test_hardly_any_open_days_or_none_at_all_suggest_nothing():
    assert suggest_country(DailySeries(START, np.zeros(600))) == ""
    assert suggest_country(DailySeries(START, np.resize([0, 0, 0, 0, 0, 9.0, 0], 600))) == ""
    assert suggest_country(DailySeries(START, np.full(600, 7.0))) == ""


@pytest.mark.parametrize("given", ["DE", "DE-BE", "de"])
def test_the_right_country_is_never_doubted(given):
    assert note_on_country(shop("DE", 0.0), given) == ()


@pytest.mark.parametrize(
    ("given", "code"), [("", "country_missing"), ("IN", "country_doubtful"), ("XX", "country_doubtful")]
)
def test_a_missing_or_wrong_country_is_noted_with_the_one_that_shows(given, code):
    (found,) = note_on_country(shop("DE", 0.0), given)

    assert found.code == code
    assert found.values["country"] == "DE"
    assert "DE" in found.say("en")
    assert "DE" in found.say("es")


def test_the_same_sales_in_another_currency_suggest_the_same():
    sales = shop("MX", 0.3, noise=0.3)

    assert suggest_country(sales) == suggest_country(DailySeries(START, sales.y * 1000.0))


def test_every_country_that_is_looked_at_has_holidays():
    assert len(set(COUNTRIES)) == len(COUNTRIES)
    assert all(Calendar(country).holidays(START, 365).sum() >= 4 for country in COUNTRIES)
