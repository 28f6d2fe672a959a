"""What days ahead sell on average where many days sell nothing: what totals are sums of.

The forecast of a day is its usual (median) day, which has the smallest absolute error. Where sales come now and then
that lies far below the mean, down to zero where fewer than half of the days sell, and a sum of such days lies as far
below what a month sells. There, totals go by the mean day of the last months::

    mean(day ahead) = (1 - w) yhat + w m    w from 0 to 1 as the share of days without sales goes from 0.1 to 0.3
"""

from dataclasses import dataclass

import numpy as np

from app.services.ml.series import DAYS_A_YEAR, SEASON, BoolArray, FloatArray

HALF_LIFE_DAYS = 8 * SEASON  # of a day's weight in the mean; a year back it is a hundredth
# Open days without sales, as a share: below the first they are holidays and accidents, which the forecasts of the days
# know about; from the second on they are how the shop sells. What this gives stands in docs/decisions/0029.
FEW, MANY = 0.1, 0.3


@dataclass(frozen=True)
class RareSales:
    """How a tenant sold on its open days of the last year, newer days counting more."""

    mean: float  # currency per open day
    idle: float  # share in 0..1 of open days that sold nothing; a weekday that never sold is none

    @classmethod
    def of(cls, y: FloatArray, is_open: BoolArray) -> "RareSales":
        """From the days known, both of shape (n_days,); zeros where no day was open.

        ``is_open`` is false on days that say nothing about an open one: closed weekdays, closures, one-off days.
        """
        y, is_open = y[-DAYS_A_YEAR:], is_open[-DAYS_A_YEAR:]
        weights = np.where(is_open, 0.5 ** (np.arange(y.size)[::-1] / HALF_LIFE_DAYS), 0.0)
        weekday = np.arange(y.size) % SEASON
        sold = np.bincount(weekday, weights * (y != 0), SEASON)[weekday] > 0  # young shops: closed, not yet known so
        if not sold.any():
            return cls(0.0, 0.0)
        idle = float(weights @ (sold & (y == 0))) / float(weights @ sold)
        return cls(float(weights @ y) / float(weights.sum()), idle)

    @property
    def weight(self) -> float:
        """How far totals go by the mean day, in 0..1."""
        return min(max((self.idle - FEW) / (MANY - FEW), 0.0), 1.0)

    def means(self, yhat: FloatArray, is_open: BoolArray) -> FloatArray:
        """What each day ahead sells on average, shape (horizon,): `yhat` itself where sales are not rare.

        Parameters
        ----------
        yhat : shape (horizon,), as published
        is_open : shape (horizon,), false on days that are known, or expected, to be closed
        """
        if self.weight == 0:
            return yhat
        return np.asarray((1.0 - self.weight) * yhat + self.weight * np.where(is_open, self.mean, 0.0))
