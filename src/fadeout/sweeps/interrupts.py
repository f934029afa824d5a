"""Ctrl-C, SIGTERM and SIGHUP: all end a sweep in the same way, and none is lost."""

import os
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager

_SIGNALS = [
    getattr(signal, name) for name in ("SIGTERM", "SIGINT", "SIGHUP") if hasattr(signal, name)
]
"""SIGHUP comes where a terminal is closed."""


class Interrupted(KeyboardInterrupt):
    """SIGINT, SIGTERM or SIGHUP.

    Attributes:
      number: the signal's.
      again: whether it was not the first, and nothing should be waited for.
    """

    def __init__(self, number: int, again: bool):
        super().__init__()
        self.number, self.again = number, again


_NOTED: list[Interrupted] = []
"""Those that struck."""


@contextmanager
def raising_interrupts(hold: bool = False) -> Iterator[list[Interrupted]]:
    """Notes and raises interrupts, for as long as the context lasts.

    Args:
      hold: only note the first, for a loop that looks at what is noted; a second is raised, and so
        is one at the end that the loop did not see.
    """

    def stop(number, _):
        _NOTED.append(Interrupted(number, again=bool(_NOTED)))
        if not hold or _NOTED[-1].again:
            raise _NOTED[-1]

    def strike_again(unraisable):
        """Python drops what a handler raises inside a destructor: it is raised a little later."""
        error = unraisable.exc_value
        if not isinstance(error, Interrupted):
            return hook(unraisable)
        _NOTED.remove(error)
        threading.Timer(0.01, os.kill, (os.getpid(), error.number)).start()

    hook = sys.unraisablehook
    before = {}
    if threading.current_thread() is threading.main_thread():  # else another launcher's worker
        handlers = {n: signal.getsignal(n) for n in _SIGNALS}
        # a handler that was not set from Python cannot be put back, and keeps its signal
        # and one that is ignored is somebody else's to tell
        before = {n: h for n, h in handlers.items() if h not in (None, signal.SIG_IGN)}
    for number in before:
        signal.signal(number, stop)
    if before:
        sys.unraisablehook = strike_again
    try:
        yield _NOTED
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
        sys.unraisablehook = hook
        missed = _NOTED[:1] if hold else []
        _NOTED.clear()
    if missed:
        raise missed[0]
