"""Prophet against the package itself, and the level that is anchored on the newest days."""

import subprocess
import sys
from datetime import date, timedelta
from pathlib import Path

import cmdstanpy
import numpy as np
import pandas as pd
import prophet
import pytest

from app.config.ml_settings import MLSettings
from app.errors import ArtifactRefused, CandidateFailed, CandidateUnavailable
from app.services.ml.calendar import Calendar, KnownDay
from app.services.ml.candidates.common import PAYDAY_SPANS, regressor_values
from app.services.ml.candidates.prophet import Prophet
from app.services.ml.series import DailySeries

START = date(2021, 1, 4)
PAYDAYS = tuple(PAYDAY_SPANS)


def shop(n_days: int):
    rng = np.random.default_rng(5)
    days = np.arange(n_days)
    week = np.array([0.8, 0.9, 1.0, 1.1, 1.4, 1.6, 0.5])[days % 7]
    return (100 + 0.05 * days + 10 * np.sin(2 * np.pi * days / 365.25)) * week + rng.normal(0, 4, n_days)


@pytest.mark.parametrize(("n_days", "mode"), [(300, "additive"), (800, "additive"), (800, "multiplicative")])
def test_our_plain_parameters_draw_the_packages_own_curve(n_days, mode):
    y = shop(n_days)
    known = pd.DataFrame(regressor_values(PAYDAYS, Calendar(), START, n_days + 28), columns=list(PAYDAYS))
    days = known.assign(ds=pd.date_range(START, periods=n_days + 28))
    theirs = prophet.Prophet(daily_seasonality=False, seasonality_mode=mode, uncertainty_samples=0)
    for name in PAYDAYS:
        theirs.add_regressor(name, standardize=False)
    theirs.fit(days[:n_days].assign(y=y))
    curve = theirs.predict(days)["yhat"].to_numpy()

    ours = Prophet(mode).fit(DailySeries(START, y), Calendar())
    ours._shift = 0.0

    np.testing.assert_allclose(ours.fitted_values(), curve[:n_days], rtol=1e-6)
    np.testing.assert_allclose(ours.predict(28), curve[n_days:], rtol=1e-6)


def test_the_level_follows_the_median_residual_of_the_last_28_days():
    y = shop(300)
    model = Prophet().fit(DailySeries(START, y), Calendar())
    later = np.concatenate([y, y[300 - 28 :] + 50.0])

    observed = model.observe(DailySeries(START, later), Calendar())

    residuals = later[-28:] - observed.fitted_values()[-28:]
    unshifted = observed.predict(28) - np.median(residuals)
    ahead = DailySeries(START, np.concatenate([later, unshifted]))
    np.testing.assert_allclose(model.observe(ahead, Calendar()).fitted_values()[-28:], unshifted, rtol=1e-9)


def test_an_event_is_a_regressor_and_worth_what_it_sells():
    y = shop(400)
    y[2:400:10] += 60.0
    known = tuple(KnownDay(START + timedelta(days=i), "event") for i in range(2, 428, 10))

    model = Prophet().fit(DailySeries(START, y), Calendar(known_days=known))

    state = model.get_state()
    assert state["regressors"] == ["event", *PAYDAYS]
    of_event = np.asarray(state["weights"], dtype=float)[-1 - len(PAYDAYS)]
    assert of_event * float(str(state["unit"])) == pytest.approx(60.0, abs=5.0)


def test_a_holiday_on_a_weekday_that_is_closed_anyway_is_no_regressor():
    sundays = tuple(KnownDay(START + timedelta(days=i), "event") for i in range(6, 300, 7))
    calendar = Calendar(known_days=sundays, closed_weekdays=frozenset({6}))

    model = Prophet().fit(DailySeries(START, shop(300)), calendar)

    assert model.get_state()["regressors"] == list(PAYDAYS)


def test_the_year_counts_from_two_years_on():
    short, long = (Prophet().fit(DailySeries(START, shop(n)), Calendar()) for n in (729, 730))

    assert short.get_state()["yearly"] is False
    assert long.get_state()["yearly"] is True


def test_the_mode_of_the_settings_changes_the_forecast_and_refuses_the_other_modes_state():
    series = DailySeries(START, shop(300))
    additive, multiplicative = (
        Prophet.from_settings(MLSettings(seasonality_mode=mode)).fit(series, Calendar())
        for mode in ("additive", "multiplicative")
    )

    assert np.abs(additive.predict(28) - multiplicative.predict(28)).max() > 0.1
    with pytest.raises(ArtifactRefused, match="mode"):
        Prophet.from_state(additive.get_state(), MLSettings(seasonality_mode="multiplicative"))


def test_a_failing_optimiser_is_a_candidate_that_failed(monkeypatch):
    def broken(*_args, **_kwargs):
        raise RuntimeError("Error during optimization! y = 123456.78")

    monkeypatch.setattr(prophet.Prophet, "fit", broken)

    with pytest.raises(CandidateFailed, match="prophet could not be fitted") as failure:
        Prophet().fit(DailySeries(START, shop(100)), Calendar())

    assert "123456" not in str(failure.value)


@pytest.mark.parametrize("n_days", [80, 300])
def test_an_optimiser_that_is_killed_once_changes_no_number(monkeypatch, n_days):
    series = DailySeries(START, shop(n_days))
    undisturbed = Prophet("additive").fit(series, Calendar()).predict(28)
    optimise, calls = cmdstanpy.CmdStanModel.optimize, []

    def killed_at_first(*args, **kwargs):
        calls.append(kwargs["algorithm"])
        if len(calls) == 1:
            raise RuntimeError("Error during optimization! Command died with <Signals.SIGKILL: 9>.")
        return optimise(*args, **kwargs)

    monkeypatch.setattr(cmdstanpy.CmdStanModel, "optimize", killed_at_first)
    disturbed = Prophet("additive").fit(series, Calendar()).predict(28)

    assert len(calls) == 2
    assert disturbed.tobytes() == undisturbed.tobytes()


def test_nothing_stays_in_the_temporary_folder_after_a_fit():
    folder = Path(cmdstanpy._TMPDIR)  # of this process alone
    Prophet().fit(DailySeries(START, shop(100)), Calendar())
    before = sorted(folder.rglob("*"))

    Prophet().fit(DailySeries(START, shop(120)), Calendar())

    assert sorted(folder.rglob("*")) == before


def test_a_fit_prints_nothing_also_where_plotly_is_not_installed():
    code = (
        "import sys; sys.modules['plotly'] = None; "
        "import numpy as np; from datetime import date; from app.services.ml.calendar import Calendar; "
        "from app.services.ml.candidates.prophet import Prophet; from app.services.ml.series import DailySeries; "
        "Prophet().fit(DailySeries(date(2024, 1, 1), np.arange(40.0) % 7), Calendar())"
    )

    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)

    assert (done.stdout, done.stderr) == ("", "")


def test_without_the_package_the_candidate_says_which_one_is_missing(monkeypatch):
    monkeypatch.setitem(sys.modules, "prophet", None)

    with pytest.raises(CandidateUnavailable, match="pip install prophet"):
        Prophet.from_settings(MLSettings())
