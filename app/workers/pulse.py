"""A worker's signs of life: a heartbeat file from its event loop, systemd's watchdog, and an end when it hears nothing.

The file is touched by a timer of the loop that also reads the queues, so it stops when that loop stops. Nothing here
asks the database: a database that is away is no reason to restart a worker.
"""

import os
import signal
import socket
import threading
import time
from pathlib import Path
from typing import Any

import structlog
from celery import Celery, bootsteps
from celery.worker import state

from app.services.heartbeat import beat
from app.workers.watchdog import LIMIT_SECONDS, Look, Watchdog

BEAT_SECONDS = 5.0
LOOK_SECONDS = 10.0
FROZEN_SECONDS = 120.0

_log = structlog.get_logger()


class Pulse:
    """The heartbeat of one worker, and a thread that watches over it."""

    def __init__(self, app: Celery, queues: tuple[str, ...], file: Path) -> None:
        self._app, self._queues, self._file = app, queues, file
        self._last = time.monotonic()
        self._connected = False
        self._watchdog = Watchdog()
        self._thread: threading.Thread | None = None

    def install(self) -> None:
        """Make it a step of the worker's consumer, so that it starts again with every connection."""
        pulse = self

        class PulseStep(bootsteps.StartStopStep):
            requires = ("celery.worker.consumer.tasks:Tasks",)

            def start(self, parent: Any) -> None:
                pulse.connected(parent)

            def stop(self, parent: Any) -> None:  # noqa: ARG002 - the base class's signature
                pulse.disconnected()

        self._app.steps["consumer"].add(PulseStep)

    def connected(self, consumer: Any) -> None:
        """The worker listens: from now on its loop beats."""
        self._connected = True
        self.beat()
        consumer.timer.call_repeatedly(BEAT_SECONDS, self.beat)
        notify_systemd("READY=1")
        if self._thread is None:
            self._thread = threading.Thread(target=self._watch, name="watchdog", daemon=True)
            self._thread.start()

    def disconnected(self) -> None:
        """The broker is away (or the worker ends). Waiting for it is no illness: the thread beats meanwhile."""
        self._connected = False

    def beat(self) -> None:
        """One beat, from the loop."""
        self._last = time.monotonic()
        beat(self._file)
        notify_systemd("WATCHDOG=1")

    def look(self) -> Look:
        """What the worker does, and what lies in its queues."""
        return Look(len(state.reserved_requests), sum(state.total_count.values()), self._waiting())

    def _waiting(self) -> int | None:
        """Messages in the queues, over a connection of its own: the worker's may be what is broken."""
        try:
            with self._app.connection_for_read(heartbeat=0) as connection:
                channel = connection.default_channel
                return sum(int(channel.queue_declare(queue).message_count) for queue in self._queues)
        except Exception as error:  # noqa: BLE001 - whatever the transport raises: then nobody knows
            _log.info("watchdog_saw_no_queue", error=type(error).__name__)
            return None

    def _watch(self) -> None:
        while True:
            time.sleep(LOOK_SECONDS)
            if not self._connected:
                self.beat()
                continue
            silent = time.monotonic() - self._last
            if silent > FROZEN_SECONDS:
                _end_at_once("worker_loop_frozen", silent)
            if (deaf := self._watchdog.deaf_for(self.look())) > LIMIT_SECONDS:
                _end_at_once("worker_hears_nothing", deaf)


def _end_at_once(event: str, seconds: float) -> None:
    """A frozen loop cannot end itself: kill -9. The supervisor starts us again; leases bring back what was at work."""
    _log.critical(event, seconds=round(seconds), pid=os.getpid())
    os.kill(os.getpid(), signal.SIGKILL)


def notify_systemd(message: str) -> None:
    """Tell systemd, when it has started us with `Type=notify`; else nothing."""
    address = os.environ.get("NOTIFY_SOCKET", "")
    if not address:
        return
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as stream:
        stream.connect("\0" + address[1:] if address.startswith("@") else address)
        stream.sendall(message.encode())
