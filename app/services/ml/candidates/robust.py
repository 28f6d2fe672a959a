"""Ridge regression with absolute loss: the linear fit that the direct candidates share."""

from dataclasses import dataclass

import numpy as np

from app.services.ml.candidates.base import State
from app.services.ml.candidates.common import float_vector
from app.services.ml.series import FloatArray

SMALLEST_RESIDUAL = 0.1  # in the unit of the target: nearer than this counts as met
LEAST_DEVIATION = 1e-9  # a column that varies less is constant


@dataclass(frozen=True, eq=False)
class RobustRidge:
    """``intercept + rows @ coefficients``; ``coefficients`` has shape (k,)."""

    intercept: float
    coefficients: FloatArray

    @classmethod
    def fit(
        cls,
        rows: FloatArray,
        target: FloatArray,
        penalties: FloatArray,
        reweightings: int,
        weights: FloatArray | None = None,
    ) -> "RobustRidge":
        """The fit that comes near to the smallest weighted absolute error, by iteratively reweighted least squares.

        Parameters
        ----------
        rows : shape (n_rows, k), finite; columns are standardised, so that the penalty treats them alike
        target : shape (n_rows,), of order one
        penalties : shape (k,), on the squared coefficients of standardised columns, in rows, > 0; the intercept is free
        reweightings : rounds after the first, each with weights 1 / |residual|
        weights : shape (n_rows,), >= 0; None counts all rows alike

        References
        ----------
        Hoerl & Kennard (1970), Technometrics 12(1), 55-67; Schlossmacher (1973), JASA 68(344), 857-859.
        """
        centre, deviation = rows.mean(axis=0), rows.std(axis=0)
        varies = deviation > LEAST_DEVIATION
        standard = np.ones((target.size, int(varies.sum()) + 1))  # the last column is the intercept's
        standard[:, :-1] = (rows[:, varies] - centre[varies]) / deviation[varies]
        costs = np.append(penalties[varies], 0.0)
        prior = np.ones(target.size) if weights is None else weights * (target.size / weights.sum())
        solution, importance = np.zeros(costs.size), prior
        for _ in range(reweightings + 1):
            solution = _weighted_ridge(standard, target, importance, costs)
            importance = prior / np.maximum(np.abs(target - standard @ solution), SMALLEST_RESIDUAL)
            importance *= target.size / importance.sum()
        slopes, level = solution[:-1], float(solution[-1])
        coefficients = np.zeros(rows.shape[1])
        coefficients[varies] = slopes / deviation[varies]
        return cls(level - float(centre @ coefficients), coefficients)

    def predict(self, rows: FloatArray) -> FloatArray:
        """Predictions of ``rows``, shape (n_rows,)."""
        return np.asarray(self.intercept + rows @ self.coefficients)

    def state(self) -> State:
        """Intercept and coefficients."""
        return {"intercept": self.intercept, "coefficients": self.coefficients}

    @classmethod
    def restore(cls, state: State, n_columns: int) -> "RobustRidge":
        """Back from `state`; ValueError when it is of another shape."""
        intercept = state["intercept"]
        if not isinstance(intercept, float) or not np.isfinite(intercept):
            raise ValueError("the intercept is no finite number")
        return cls(intercept, float_vector(state, "coefficients", n_columns))


def _weighted_ridge(rows: FloatArray, target: FloatArray, weights: FloatArray, penalties: FloatArray) -> FloatArray:
    """Coefficients, shape (k,), from the normal equations; the weights enter as roots, so that both factors are equal.

    Of a product of a matrix with itself only half is computed.
    """
    roots = np.sqrt(weights)
    weighted = rows * roots[:, None]
    return np.asarray(
        np.linalg.solve(weighted.T @ weighted + np.diag(penalties), weighted.T @ (target * roots)), dtype=np.float64
    )
