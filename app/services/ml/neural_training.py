"""Trains the network of the global model with PyTorch, which only this module imports (extra `neural`).

Huber loss, dropout, a learning rate that falls on plateaus, and an early stop by the newest weeks of every tenant,
which are held out for it. Kept is a running average of the weights (Polyak & Juditsky, 1992, SIAM Journal on Control
and Optimization 30(4), 838-855). One seed and, on a CPU, one thread: equal windows give equal weights.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import fields
from typing import Any, Literal

import numpy as np

from app.config.ml_settings import MLSettings
from app.services.ml.candidates.network import N_HIDDEN, N_MEMORY, Network
from app.services.ml.candidates.ridge import N_COLUMNS
from app.services.ml.candidates.windows import N_SIGNALS, Float32Array
from app.services.ml.lessons import SEED, Lessons

Device = Literal["auto", "cpu", "cuda"]
INSTALL = "pip install 'tenantcast[neural]'"
DROPOUT = 0.2  # of the hidden units, and of what is remembered of the weeks
BATCH = 64  # origins
LEARNING_RATE = 3e-3
PATIENCE = 6  # epochs without a gain before the end; half as many before the learning rate falls
FALL = 0.3
MOST_EPOCHS = 40
AVERAGED = 0.01  # what one step adds to the average of the weights, which is what is judged and kept
BEND = 0.5  # weekly differences: smaller errors are squared


def device_for(settings: MLSettings) -> tuple[Device | None, str]:
    """What to train a network on, None for no network; then also why, in words, where the settings ask for one."""
    if not settings.global_lstm:
        return None, ""
    reason = why_not(settings.global_lstm_device)
    return (None if reason else settings.global_lstm_device), reason


def why_not(device: Device) -> str:
    """Why no network can be trained here, and what to do; "" when one can."""
    try:
        import torch
    except (ImportError, OSError):  # OSError: its libraries do not fit this machine
        return f"PyTorch is not installed, or cannot be loaded: {INSTALL}."
    if device == "cuda" and not torch.cuda.is_available():
        return "ML_GLOBAL_LSTM_DEVICE is cuda, and PyTorch sees no such device: set it to auto or cpu."
    return ""


def train_network(known: Lessons, held_out: Lessons, device: Device) -> Network:
    """The network that did best on ``held_out``, whose days ahead all lie after those of ``known``.

    `device_for` says beforehand whether PyTorch and the device are there.
    """
    import torch

    on = "cuda" if device != "cpu" and torch.cuda.is_available() else "cpu"
    with _alone(torch):
        net, average = _Net(torch, on), _Net(torch, on)
        optimiser = torch.optim.AdamW(net.parameters(), lr=LEARNING_RATE)
        plateau = torch.optim.lr_scheduler.ReduceLROnPlateau(optimiser, factor=FALL, patience=PATIENCE // 2)
        lessons, exam = (_tensors(torch, part, on) for part in (known, held_out))
        best, best_loss, since, steps = average.network(), float("inf"), 0, 0
        for _ in range(MOST_EPOCHS):
            for batch in torch.randperm(len(known.weeks)).split(BATCH):
                optimiser.zero_grad()
                net.loss(*(part[batch] for part in lessons), learning=True).backward()
                torch.nn.utils.clip_grad_norm_(net.parameters(), 1.0)
                optimiser.step()
                steps += 1
                average.follow(net, max(1 / steps, AVERAGED))
            with torch.no_grad():
                loss = float(average.loss(*exam, learning=False))
            plateau.step(loss)
            if loss < best_loss:
                best, best_loss, since = average.network(), loss, 0
            elif (since := since + 1) > PATIENCE:
                break
    return best


@contextmanager
def _alone(torch: Any) -> Iterator[None]:
    """One thread, and a random state of its own: nothing around is changed."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with torch.random.fork_rng():
            torch.manual_seed(SEED)
            yield
    finally:
        torch.set_num_threads(threads)


def _tensors(torch: Any, lessons: Lessons, on: str) -> Sequence[Any]:
    return [torch.from_numpy(getattr(lessons, part.name)).to(on) for part in fields(lessons)]


class _Net:
    """What `Network` computes, as PyTorch trains it."""

    def __init__(self, torch: Any, on: str) -> None:
        nn = torch.nn
        self._torch = torch
        self._lstm = nn.LSTM(N_SIGNALS, N_MEMORY, batch_first=True).to(on)
        self._hidden = nn.Linear(N_COLUMNS + N_MEMORY, N_HIDDEN).to(on)
        self._out = nn.Linear(N_HIDDEN, 1).to(on)

    def parameters(self) -> list[Any]:
        return [weights for layer in (self._lstm, self._hidden, self._out) for weights in layer.parameters()]

    def follow(self, other: "_Net", share: float) -> None:
        """Go this share of the way to the other's weights."""
        with self._torch.no_grad():
            for mine, its in zip(self.parameters(), other.parameters(), strict=True):
                mine.lerp_(its, share)

    def forward(self, weeks: Any, days: Any, *, learning: bool) -> Any:
        """Targets, shape (n_origins, n_steps); ``learning`` drops units out."""
        drop = self._torch.nn.functional.dropout
        memory = drop(self._lstm(weeks)[0][:, -1], DROPOUT, learning)
        seen = self._torch.cat([days, memory[:, None].expand(-1, days.shape[1], -1)], dim=-1)
        return self._out(drop(self._hidden(seen).relu(), DROPOUT, learning))[..., 0]

    def loss(self, weeks: Any, days: Any, target: Any, *, learning: bool) -> Any:
        """Huber loss over the days that are known."""
        known = target.isfinite()
        found = self.forward(weeks, days, learning=learning)
        return self._torch.nn.functional.smooth_l1_loss(found[known], target[known], beta=BEND)

    def network(self) -> Network:
        """The weights of now, as they are stored; PyTorch's two biases are one."""
        lstm, hidden, out = self._lstm, self._hidden, self._out
        return Network(
            weeks_in=_array(lstm.weight_ih_l0),
            weeks_back=_array(lstm.weight_hh_l0),
            weeks_bias=_array(lstm.bias_ih_l0 + lstm.bias_hh_l0),
            hidden=_array(hidden.weight),
            hidden_bias=_array(hidden.bias),
            out=_array(out.weight)[0],
            out_bias=_array(out.bias),
        )


def _array(weights: Any) -> Float32Array:
    return np.array(weights.detach().cpu().numpy(), dtype=np.float32)
