"""Signed square roots of sales, the scale on which most methods learn: their errors grow with the level."""

import numpy as np

from app.services.ml.series import FloatArray


def to_roots(sales: FloatArray) -> FloatArray:
    """Signed square roots, shape unchanged; nan stays nan."""
    return np.asarray(np.sign(sales) * np.sqrt(np.abs(sales)))


def from_roots(roots: FloatArray) -> FloatArray:
    """Back from `to_roots`."""
    return np.asarray(np.sign(roots) * roots**2)
