"""Forecasts that are not on file yet: made by processes of one thread each, timed, and filed as they come."""

import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from dataclasses import dataclass
from multiprocessing import get_context

import numpy as np

from app.services.ml.cpu_time import cpu_seconds
from benchmarks.methods import Known, Method, Prediction
from benchmarks.plan import Span, Wanted, plan
from benchmarks.registry import method_named
from benchmarks.store import Key, Result, ResultFile

SPREAD = 0.618_033_988_749_895  # the golden ratio's multiples fall evenly into 0..1
MAX_WORDS = 200  # characters of a failure that are kept
Progress = Callable[[int, int, str], None]  # forecasts done, in all, method


@dataclass(frozen=True, eq=False)
class Task:
    """Forecasts that one process makes in one go: of one series, or of all of them from one window."""

    method: str
    shown: tuple[Known, ...]
    keys: tuple[Key, ...]


def run(
    methods: Sequence[Method],
    series: Sequence[Known],
    span: Span,
    file: ResultFile,
    *,
    jobs: int = 1,
    minutes: float | None = None,
    progress: Progress | None = None,
    clock: Callable[[], float] = time.monotonic,
) -> bool:
    """Make and file what is missing.

    Series go one after the other through all methods, in an order that jumps over the whole file: what an ended run has
    reached can be compared, and is an even sample.

    Parameters
    ----------
    methods, series, span : what to forecast; methods that are not installed must be left out before
    file : earlier results, to which each new one is added
    jobs : processes
    minutes : no forecast is begun after this time
    progress : called as results come
    clock : seconds since whenever

    Returns
    -------
    bool : everything is there
    """
    wanted = {method.name: plan(method, series, span) for method in methods}
    tasks = [task for method in methods for task in _tasks(method, wanted[method.name], file)]
    place = {one.unique_id: (n * SPREAD) % 1.0 for n, one in enumerate(series)}
    tasks.sort(key=lambda task: place[task.keys[0].unique_id])
    total = sum(map(len, wanted.values()))
    done = total - sum(len(task.keys) for task in tasks)
    deadline = clock() + 60 * minutes if minutes is not None else float("inf")
    for name, results in _results(tasks, jobs, lambda: clock() < deadline):
        file.add(results)
        done += len(results)
        if progress is not None:
            progress(done, total, name)
    return done == total


def _results(tasks: Sequence[Task], jobs: int, in_time: Callable[[], bool]) -> Iterator[tuple[str, list[Result]]]:
    """Tasks begin while it is ``in_time``; none waits in a queue. Processes are spawned: XGBoost hangs in a fork."""
    waiting = iter(tasks)
    if jobs <= 1 or len(tasks) <= 1:
        while in_time() and (task := next(waiting, None)):
            yield task.method, _work(task)
        return
    with ProcessPoolExecutor(jobs, mp_context=get_context("spawn")) as pool:
        running: dict[Future[list[Result]], str] = {}
        while True:
            while len(running) < jobs and in_time() and (task := next(waiting, None)):
                running[pool.submit(_work, task)] = task.method
            if not running:
                return
            for future in wait(running, return_when=FIRST_COMPLETED).done:
                yield running.pop(future), future.result()


def _tasks(method: Method, wanted: Sequence[Wanted], file: ResultFile) -> Iterator[Task]:
    groups: dict[str | int, list[Wanted]] = {}
    for one in wanted:
        groups.setdefault(one.window if method.together else one.key.unique_id, []).append(one)
    for group in groups.values():
        missing = [one for one in group if file.get(one.key) is None]
        todo = group if method.together and missing else missing  # it learns from all, also from those on file
        if todo:
            yield Task(method.name, tuple(one.known for one in todo), tuple(one.key for one in todo))


_warm: set[str] = set()


def _work(task: Task) -> list[Result]:
    method = method_named(task.method)
    if method.name not in _warm:
        method.warm_up()
        _warm.add(method.name)
    if method.together is not None:
        return _all_at_once(method, task)
    return [_one(method, known, key) for known, key in zip(task.shown, task.keys, strict=True)]


def _one(method: Method, known: Known, key: Key) -> Result:
    assert method.alone is not None  # noqa: S101 - for the type checker
    before = cpu_seconds()
    try:
        with np.errstate(all="ignore"):
            prediction = _sound(method.alone(known, key.horizon), key.horizon)
    except Exception as error:  # noqa: BLE001 - a rival may raise anything; the failure is its result
        return Result(key, None, (cpu_seconds() - before) / method.made, _words(error))
    return Result(key, prediction, (cpu_seconds() - before) / method.made)


def _all_at_once(method: Method, task: Task) -> list[Result]:
    assert method.together is not None  # noqa: S101 - for the type checker
    before = cpu_seconds()
    try:
        predictions = method.together(list(task.shown), task.keys[0].horizon)
    except Exception as error:  # noqa: BLE001 - as above
        return [Result(key, None, 0.0, _words(error)) for key in task.keys]
    each = (cpu_seconds() - before) / len(task.keys)
    results = []
    for key in task.keys:
        try:
            results.append(Result(key, _sound(predictions[key.unique_id], key.horizon), each))
        except (KeyError, ValueError) as error:
            results.append(Result(key, None, each, _words(error)))
    return results


def _words(error: Exception) -> str:
    return f"{type(error).__name__}: {error}".splitlines()[0][:MAX_WORDS]


def _sound(prediction: Prediction, horizon: int) -> Prediction:
    for values in (prediction.mean, *prediction.bounds.values()):
        if np.shape(values) != (horizon,) or not np.isfinite(values).all():
            raise ValueError("a forecast of another length, or one that is not finite")
    return prediction.clipped()
