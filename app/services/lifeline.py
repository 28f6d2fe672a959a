"""A process that ends when its parent does, however the parent ends: Linux sends it a signal then."""

import ctypes
import os
import signal
import sys

PARENT_VARIABLE = "TENANTCAST_PARENT_PID"  # set by the parent that we are to end with
_PR_SET_PDEATHSIG = 1


def end_with_parent(parent: int, how: signal.Signals) -> None:
    """Receive ``how`` when the process ``parent`` ends; at once, if it already has. Elsewhere than on Linux: nothing.

    Call it in the process itself, soon after its start. The parent must have started it from its main thread: Linux
    means the thread that made the process.
    """
    if not sys.platform.startswith("linux"):
        return
    library = ctypes.CDLL(None, use_errno=True)
    if library.prctl(_PR_SET_PDEATHSIG, int(how), 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), "prctl")
    if os.getppid() != parent:
        signal.raise_signal(how)


def end_with_supervisor() -> None:
    """End in order, as after Ctrl-C, when the supervisor that started us is gone; without one, nothing."""
    parent = os.environ.get(PARENT_VARIABLE, "")
    if parent.isdecimal():
        # Until Celery has handlers of its own, an interrupt simply ends us: as an exception it could be swallowed (in a
        # destructor, say), and a shell may have left the signal ignored.
        signal.signal(signal.SIGINT, signal.SIG_DFL)
        end_with_parent(int(parent), signal.SIGINT)
