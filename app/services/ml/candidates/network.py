"""A recurrent network as plain arrays: an LSTM over weeks, then one hidden layer for each day ahead.

It is trained by PyTorch (`app.services.ml.neural_training`) and computed here, so that forecasting needs numpy only.
Weights have 32 bits, sums 64: what a day comes to depends on no other day, and on no machine in the digits that count.
"""

import hashlib
from dataclasses import dataclass, fields
from functools import cached_property

import numpy as np

from app.services.ml.candidates.base import State
from app.services.ml.candidates.ridge import N_COLUMNS
from app.services.ml.candidates.windows import N_SIGNALS, Float32Array
from app.services.ml.series import FloatArray

N_MEMORY = 32  # cells of the LSTM
N_HIDDEN = 64


@dataclass(frozen=True, eq=False)
class Network:
    """Hochreiter & Schmidhuber (1997), *Long short-term memory*, Neural Computation 9(8), 1735-1780, with forget gates.

    A week x and the memory (h, c) before it give the gates i, f, g, o, in this order, and the memory after it::

        i, f, g, o = x @ weeks_in.T + h @ weeks_back.T + weeks_bias
        c = sigmoid(f) * c + sigmoid(i) * tanh(g);    h = sigmoid(o) * tanh(c)

    The last h and the columns of a day ahead give that day: ``relu([columns, h] @ hidden.T + hidden_bias) @ out + out_bias``.
    """  # noqa: E501

    weeks_in: Float32Array  # shape (4 * N_MEMORY, N_SIGNALS)
    weeks_back: Float32Array  # shape (4 * N_MEMORY, N_MEMORY)
    weeks_bias: Float32Array  # shape (4 * N_MEMORY,)
    hidden: Float32Array  # shape (N_HIDDEN, N_COLUMNS + N_MEMORY)
    hidden_bias: Float32Array  # shape (N_HIDDEN,)
    out: Float32Array  # shape (N_HIDDEN,)
    out_bias: Float32Array  # shape (1,)

    def predict(self, weeks: Float32Array, days: Float32Array) -> FloatArray:
        """The target of every day ahead, shape (n_origins, n_steps), weekly differences; arrays as in `Windows`."""
        memory = self._memory(weeks.astype(np.float64))
        of_days, of_memory = self.hidden[:, :N_COLUMNS], self.hidden[:, N_COLUMNS:]
        inner = days.astype(np.float64) @ of_days.T + (memory @ of_memory.T + self.hidden_bias)[:, None]
        return np.asarray(np.maximum(inner, 0) @ self.out + self.out_bias)

    def _memory(self, weeks: FloatArray) -> FloatArray:
        """What is remembered after the last week, shape (n_origins, N_MEMORY)."""
        h = c = np.zeros((len(weeks), N_MEMORY))
        driven = weeks @ self.weeks_in.T + self.weeks_bias
        for week in range(weeks.shape[1]):
            i, f, g, o = np.split(driven[:, week] + h @ self.weeks_back.T, 4, axis=1)
            c = _sigmoid(f) * c + _sigmoid(i) * np.tanh(g)
            h = _sigmoid(o) * np.tanh(c)
        return h

    @cached_property
    def digest(self) -> bytes:
        """SHA-256 of the weights."""
        return hashlib.sha256(b"".join(getattr(self, part.name).tobytes() for part in fields(self))).digest()

    def state(self) -> State:
        """The arrays by name."""
        return {part.name: getattr(self, part.name) for part in fields(self)}

    @classmethod
    def restore(cls, state: object) -> "Network":
        """Back from `state`; TypeError or ValueError for arrays of another shape or type, or not finite."""
        if not isinstance(state, dict) or state.keys() != SHAPES.keys():
            raise ValueError("a network has other parts")
        return cls(**{name: _checked(state[name], shape) for name, shape in SHAPES.items()})


SHAPES = {
    "weeks_in": (4 * N_MEMORY, N_SIGNALS),
    "weeks_back": (4 * N_MEMORY, N_MEMORY),
    "weeks_bias": (4 * N_MEMORY,),
    "hidden": (N_HIDDEN, N_COLUMNS + N_MEMORY),
    "hidden_bias": (N_HIDDEN,),
    "out": (N_HIDDEN,),
    "out_bias": (1,),
}


def _checked(values: object, shape: tuple[int, ...]) -> Float32Array:
    array = np.asarray(values)
    if array.dtype != np.float32 or array.shape != shape or not np.isfinite(array).all():
        raise ValueError("a network's weights are of another shape, or no finite numbers")
    return np.ascontiguousarray(array)


def _sigmoid(x: FloatArray) -> FloatArray:
    """By the hyperbolic tangent, which overflows nowhere."""
    return np.asarray(0.5 * np.tanh(0.5 * x) + 0.5)
