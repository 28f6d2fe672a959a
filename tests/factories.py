"""Series for tests: known patterns, and hostile ones."""

from collections.abc import Callable
from datetime import date, timedelta
from typing import Any

import numpy as np

from app.services.ml.series import DailySeries, FloatArray

MONDAY = date(2024, 1, 1)
WEEK = np.array([10.0, 12.0, 11.0, 14.0, 20.0, 30.0, 8.0])  # Monday first


def series_of(values: Any, start: date = MONDAY) -> DailySeries:
    return DailySeries(start, np.asarray(values, dtype=np.float64))


def weekly_series(
    n_days: int = 280, noise: float = 0.0, level: float = 1.0, seed: int = 1, start: date = MONDAY
) -> DailySeries:
    """The same week over and over, with normal noise of a share of its mean; never negative."""
    weekdays = (start.weekday() + np.arange(n_days)) % 7
    random = np.random.default_rng(seed).normal(0.0, noise * WEEK.mean(), n_days)
    return series_of(level * np.maximum(WEEK[weekdays] + random, 0.0), start)


def closed_on_sundays(n_days: int = 280, noise: float = 0.1, seed: int = 2) -> DailySeries:
    series = weekly_series(n_days, noise, seed=seed)
    return series_of(np.where(series.weekdays == 6, 0.0, series.y))


def with_day(series: DailySeries, index: int, value: float) -> DailySeries:
    """A copy with one day changed; a negative index counts from the end."""
    y = series.y.copy()
    y[index] = value
    return DailySeries(series.start, y)


def hostile_values(rng: np.random.Generator, longest: int = 4000) -> FloatArray:
    """Finite daily sales as nobody wants them; lengths are log-uniform in 1..``longest``."""
    n = int(np.exp(rng.uniform(0, np.log(longest + 0.5))))
    scale = 10.0 ** rng.uniform(-3, 9)
    weekday = rng.uniform(0, 2, 7)[(np.arange(n) + rng.integers(7)) % 7]
    y: FloatArray = _BASES[rng.integers(len(_BASES))](rng, n) * weekday * scale
    for spoil in _SPOILS:
        if rng.random() < 0.2:
            y = spoil(rng, y)
    return y


def hostile_start(rng: np.random.Generator) -> date:
    return date(1950, 1, 1) + timedelta(days=int(rng.integers(0, 55_000)))


def _outliers(rng: np.random.Generator, y: FloatArray) -> FloatArray:
    y = y.copy()
    y[rng.integers(0, y.size, 1 + y.size // 50)] *= 10.0 ** rng.uniform(1, 8)
    return y


def _level_shift(rng: np.random.Generator, y: FloatArray) -> FloatArray:
    return np.where(np.arange(y.size) < rng.integers(0, y.size + 1), y, y * 10.0 ** rng.uniform(-3, 3))


def _outage(rng: np.random.Generator, y: FloatArray) -> FloatArray:
    start = rng.integers(0, y.size)
    return np.where((np.arange(y.size) >= start) & (np.arange(y.size) < start + 40), 0.0, y)


def _refunds(rng: np.random.Generator, y: FloatArray) -> FloatArray:
    return np.where(rng.random(y.size) < 0.1, -y, y)


def _huge_day(rng: np.random.Generator, y: FloatArray) -> FloatArray:
    y = y.copy()
    y[rng.integers(0, y.size)] = rng.choice([1e15, 1e18, 1e300, -1e300, 1.7e308])
    return y


_BASES: tuple[Callable[[np.random.Generator, int], FloatArray], ...] = (
    lambda rng, n: np.zeros(n),
    lambda rng, n: np.full(n, rng.uniform(-1, 1)),
    lambda rng, n: rng.gamma(2.0, 1.0, n),
    lambda rng, n: rng.poisson(0.2, n).astype(float),
    lambda rng, n: rng.standard_cauchy(n),
    lambda rng, n: np.cumsum(rng.normal(0, 1, n)),
    lambda rng, n: np.exp(np.linspace(0, rng.uniform(-20, 20), n)),
    lambda rng, n: np.eye(1, n, int(rng.integers(n)))[0],
    lambda rng, n: np.full(n, 5e-324),
)
_SPOILS: tuple[Callable[[np.random.Generator, FloatArray], FloatArray], ...] = (
    _outliers,
    _level_shift,
    _outage,
    _refunds,
    _huge_day,
)
