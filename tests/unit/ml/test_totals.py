"""Bands of totals: by hand where a hand can follow, and covered as often as they say on errors of known kinds."""

import math
from datetime import date

import numpy as np
import pytest

from app.services.ml.series import DailySeries
from app.services.ml.totals import (
    DEGREES,
    GROWTH,
    PRIOR_STRETCHES,
    REFIT_GAIN,
    naive_errors,
    past_errors,
    spread,
    totals,
)

OPEN = np.ones(28, dtype=bool)
LEVELS = (0.8, 0.95)
T_80, T_95 = 1.43976, 2.44691  # Student's t with 6 degrees of freedom, from a table


def band(errors, level=0.8, days=7, *, yhat=None, is_open=OPEN, floor=-math.inf) -> tuple[float, float]:
    yhat = np.full(28, 100.0) if yhat is None else yhat
    made = totals(yhat, yhat, is_open, errors, (level,), floor)
    return next(total.bands[level] for total in made if total.days == days)


def test_the_spread_of_a_week_is_by_hand():
    errors = np.array([[3.0, 0, 0, 0, 0, 0, 0, 4.0]])  # two stretches of seven days: sums 3 and 4

    own, daily, stretches = (9 + 16) / 2, (9 + 16) / 8, 8 / 7
    projected = daily * 7 ** (2 * GROWTH[7])
    expected = (stretches * own + PRIOR_STRETCHES * projected) / (stretches + PRIOR_STRETCHES)

    assert spread(errors, 7) == pytest.approx(math.sqrt(expected))


def test_a_span_longer_than_the_folds_is_projected_from_the_longest_that_fits():
    errors = np.random.default_rng(1).normal(size=(3, 14))

    assert spread(errors, 28) == pytest.approx(spread(errors, 7) * 4 ** GROWTH[28])


@pytest.mark.parametrize(("level", "t"), [(0.8, T_80), (0.95, T_95)])
def test_the_band_is_as_wide_as_students_t_says(level, t):
    errors = np.random.default_rng(1).normal(0, 50, (3, 28))

    lower, upper = band(errors, level)

    width = spread(errors, 7) * t * math.sqrt((DEGREES - 2) / DEGREES)
    assert lower == pytest.approx(700 - width, abs=0.01)
    assert upper == pytest.approx(700 + width, abs=0.01)


def test_a_forecast_that_was_always_off_by_as_much_gets_a_wider_band_than_one_whose_errors_cancel():
    off = np.full((3, 28), 10.0)
    cancelling = np.tile([10.0, -10.0], (3, 14))

    assert spread(off, 28) > 2 * spread(cancelling, 28)


@pytest.mark.parametrize("days", [7, 28])
@pytest.mark.parametrize("persistence", [0.0, 0.5])
def test_errors_of_known_kinds_are_covered_about_as_often_as_the_level_says(days, persistence):
    rng = np.random.default_rng(3)
    inside = np.zeros(len(LEVELS))
    for _ in range(400):
        noise = rng.normal(0, 10, 200)
        for day in range(1, 200):
            noise[day] += persistence * noise[day - 1]
        lower_upper = totals(np.zeros(28), np.zeros(28), OPEN, noise[-112:-28].reshape(3, 28), LEVELS, -math.inf)
        made = next(total for total in lower_upper if total.days == days)
        actual = noise[-28:][:days].sum()
        inside += [made.bands[level][0] <= actual <= made.bands[level][1] for level in LEVELS]

    # The growth is that of real sales, whose levels move: for errors that only cancel the bands are wide.
    assert 0.72 <= inside[0] / 400 <= 0.995
    assert 0.92 <= inside[1] / 400 <= 1.0


def test_any_level_is_possible_and_a_higher_one_is_never_narrower():
    errors = np.random.default_rng(1).normal(size=(3, 28))
    levels = (0.05, 0.5, 0.8, 0.9, 0.95, 0.99, 0.999)

    widths = [
        np.diff(bounds)[0]
        for bounds in totals(np.zeros(28), np.zeros(28), OPEN, errors, levels, -math.inf)[1].bands.values()
    ]

    assert widths == sorted(widths)
    assert widths[0] > 0


@pytest.mark.parametrize(("horizon", "days"), [(1, []), (6, []), (7, [7]), (27, [7]), (28, [7, 28]), (365, [7, 28])])
def test_a_horizon_gives_the_totals_that_it_holds(horizon, days):
    made = totals(np.ones(horizon), np.ones(horizon), np.ones(horizon, dtype=bool), np.ones((3, 28)), LEVELS, 0.0)

    assert [total.days for total in made] == days


def test_sales_that_were_never_negative_have_no_negative_bound():
    errors = np.random.default_rng(1).normal(0, 1000, (3, 28))

    assert band(errors, floor=0.0)[0] == 0.0
    assert band(errors)[0] < 0


def test_a_total_of_means_has_the_band_of_what_the_means_missed():
    sold = np.tile([0.0, 0.0, 0.0, 0.0, 70.0, 0.0, 0.0], 12).reshape(3, 28)  # the usual day is 0, a week 70

    usual, mean = (totals(np.zeros(28), means, OPEN, sold, (0.8,), 0.0)[1] for means in (np.zeros(28), np.full(28, 10)))

    assert (usual.yhat, mean.yhat) == (0.0, 280.0)
    assert mean.bands[0.8][0] < 280.0 < mean.bands[0.8][1]
    assert spread(sold - 10.0, 28) < spread(sold, 28)
    assert mean.bands[0.8][1] - 280.0 == pytest.approx(
        spread(sold - 10.0, 28) * T_80 * math.sqrt((DEGREES - 2) / DEGREES), abs=0.01
    )


def test_announced_closures_narrow_the_band_and_a_closed_week_has_none():
    errors = np.random.default_rng(1).normal(0, 10, (3, 28))
    yhat = np.full(28, 100.0)
    half, none = OPEN.copy(), OPEN.copy()
    half[:4] = False
    none[:7] = False

    assert np.diff(band(errors, is_open=half))[0] < 0.7 * np.diff(band(errors))[0]
    assert band(errors, yhat=np.where(none, yhat, 0.0), is_open=none) == (0.0, 0.0)


def test_weekdays_that_are_always_closed_are_no_closures_ahead():
    weekly = np.tile([True] * 6 + [False], 4)
    errors = np.where(weekly, np.random.default_rng(1).normal(0, 10, (3, 28)), 0.0)

    assert band(errors, is_open=weekly) == band(errors, is_open=OPEN)


def test_a_forecast_that_never_erred_has_bands_without_width():
    assert band(np.zeros((3, 28))) == (700.0, 700.0)


def test_closed_days_count_as_no_error_and_learned_parameters_gain_by_the_final_fit():
    residuals, closed = np.array([[10.0, 10.0]]), np.array([[False, True]])

    np.testing.assert_allclose(past_errors(residuals, closed, 0.5), [[10.0 * (1 - REFIT_GAIN / 2), 0.0]])


@pytest.mark.parametrize(
    ("y", "errors"),
    [([5.0], [5.0]), ([1.0, 3.0, 2.0], [2.0, -1.0]), ([1.0, 2, 3, 4, 5, 6, 7, 9, 1], [8.0, -1.0])],
)
def test_without_folds_last_weeks_or_days_differences_stand_in(y, errors):
    found = naive_errors(DailySeries(date(2026, 11, 2), np.array(y)))

    np.testing.assert_allclose(found, [errors])
    assert spread(found, 28) > 0
