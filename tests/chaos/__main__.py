"""`make chaos`: a storm of any size, its verdict as a table, and an exit code other than 0 when anything is wrong."""

import argparse
import contextlib
import logging
import random
import sys
import tempfile

import structlog
from rich.console import Console

import app  # noqa: F401 - pins the thread pools before anything loads numpy
from tests.chaos.backends import Backends, running_backends
from tests.chaos.control import MessageWork
from tests.chaos.faults import make_plan
from tests.chaos.report import show_faults, show_verdict
from tests.chaos.run import blow
from tests.chaos.stage import control_roles, new_stage
from tests.chaos.storm import Storm
from tests.chaos.tenants import add_shops
from tests.chaos.verdict import Verdict
from tests.conftest import pytest_configure as forget_the_developers_settings

CONTROL_TENANTS = 100
CONTROL_FAULTS = 20
CONTROL_FIT_SECONDS = 0.1


def main() -> int:
    """0 when the ledger lost, doubled and mixed nothing, and the control group, which must fail, has failed."""
    wanted = _arguments()
    forget_the_developers_settings()
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.ERROR))
    console = Console(width=140)
    with tempfile.TemporaryDirectory() as empty, contextlib.chdir(empty), running_backends() as backends:
        good = _ledger(backends, wanted, console)
        control = _control_group(backends, wanted.seed)
    show_verdict(console, "message = work", control)
    if control.good:
        console.print("The control group has come through: this storm proves nothing.")
    return 0 if good and not control.good else 1


def _ledger(backends: Backends, wanted: argparse.Namespace, console: Console) -> bool:
    with new_stage(backends) as stage:
        outcome = blow(stage, seed=wanted.seed, faults=wanted.faults, tenants=wanted.tenants, real=wanted.real)
    show_faults(console, outcome.storm.hits)
    show_verdict(console, "ledger", outcome.verdict)
    console.print(
        f"seed {wanted.seed}: {len(outcome.storm.hits)} of {wanted.faults} faults struck, "
        f"{outcome.restarts} processes restarted, {len(outcome.parked)} tenants parked meanwhile"
    )
    if outcome.storm.stalled or not outcome.verdict.good:
        console.print(outcome.explain(), markup=False, highlight=False)
    whole = len(outcome.storm.hits) == wanted.faults and not outcome.verdict.parked
    return outcome.verdict.good and whole and not outcome.storm.stalled


def _control_group(backends: Backends, seed: int) -> Verdict:
    with new_stage(backends) as stage:
        work = MessageWork.start(stage.database, backends.redis, add_shops(stage.database, CONTROL_TENANTS))
        scene = stage.scene(control_roles(), fit_seconds=CONTROL_FIT_SECONDS)
        try:
            scene.fleet.start()
            Storm(scene, work, make_plan(seed, CONTROL_FAULTS), CONTROL_TENANTS).blow()
        finally:
            scene.fleet.stop()
        return work.judge()


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="make chaos", description=__doc__)
    parser.add_argument("--faults", type=int, default=30)
    parser.add_argument("--tenants", type=int, default=300)
    parser.add_argument("--real", type=int, default=0, help="how many of them are forecast by every real candidate")
    parser.add_argument("--seed", type=int, default=random.randrange(10**6))
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
