"""Ctrl-C and SIGTERM: both end a sweep in the same way, and neither is lost."""

import signal
from collections.abc import Iterator
from contextlib import contextmanager

NOTED: list[KeyboardInterrupt] = []
"""What a handler raised. Python swallows it where it struck inside a destructor; the queue looks
here as well."""


class Terminated(KeyboardInterrupt):
    """SIGTERM, which should end a sweep as Ctrl-C does."""


@contextmanager
def noted() -> Iterator[None]:
    """Raises and notes interrupts, for as long as the context lasts."""

    def stop(number, _):
        NOTED.append(Terminated() if number == signal.SIGTERM else KeyboardInterrupt())
        raise NOTED[-1]

    try:
        before = {n: signal.signal(n, stop) for n in (signal.SIGTERM, signal.SIGINT)}
    except ValueError:  # not in the main thread: another launcher's worker
        before = {}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
        NOTED.clear()
