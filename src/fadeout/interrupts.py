"""Ctrl-C and SIGTERM: both end a sweep in the same way, and neither is lost."""

import signal
from collections.abc import Iterator
from contextlib import contextmanager

NOTED: list[KeyboardInterrupt] = []
"""Those that struck. Python swallows what a handler raises inside a destructor; the queue looks
here as well."""


class Terminated(KeyboardInterrupt):
    """SIGTERM, which should end a sweep as Ctrl-C does."""


@contextmanager
def noted(hold: bool = False) -> Iterator[list[KeyboardInterrupt]]:
    """Notes and raises interrupts, for as long as the context lasts.

    Args:
      hold: only note the first, for a loop that looks at what is noted; a second is raised.
    """

    def stop(number, _):
        NOTED.append(Terminated() if number == signal.SIGTERM else KeyboardInterrupt())
        if not hold or len(NOTED) > 1:
            raise NOTED[-1]

    try:
        before = {n: signal.signal(n, stop) for n in (signal.SIGTERM, signal.SIGINT)}
    except ValueError:  # not in the main thread: another launcher's worker
        before = {}
    try:
        yield NOTED
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
        NOTED.clear()
