"""Servers for the storms, once; a database, a home and empty queues for each."""

import logging
from collections.abc import Iterator

import pytest
import structlog

from tests.chaos.backends import Backends, running_backends
from tests.chaos.stage import Stage, new_stage

TIMEOUT_SECONDS = 1200  # a machine that is busy with other things; on two idle cores all of it takes minutes


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "chaos: real workers as processes, killed at random; the seed is printed")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """All of it is marked, so that `-m "not chaos"` leaves it out; storms may take longer than other tests."""
    for item in items:
        if "tests/chaos/" in item.nodeid:
            item.add_marker(pytest.mark.chaos)
            item.add_marker(pytest.mark.timeout(TIMEOUT_SECONDS))


@pytest.fixture(autouse=True)
def _only_errors_are_logged() -> Iterator[None]:
    """The harness polls the product's functions; their information would bury the storm's own lines."""
    before = structlog.get_config()
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.ERROR))
    yield
    structlog.configure(**before)


@pytest.fixture(scope="session")
def backends() -> Iterator[Backends]:
    """A PostgreSQL and a Redis that tests may kill."""
    with running_backends() as running:
        yield running


@pytest.fixture
def stage(backends: Backends) -> Iterator[Stage]:
    """A database of this test's own, migrated, with the example product's empty tables."""
    with new_stage(backends) as opened:
        yield opened
