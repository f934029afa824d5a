"""Pictures drawn by a second process, which imports what they need while the first one trains.

Of a sweep whose programs are kept, pictures take half of the time, and only one core: matplotlib
keeps Python's lock. The process is asked by a pickle on its standard input, answers by one on its
standard output, and ends with whoever has started it.
"""

import contextlib
import functools
import os
import pickle
import subprocess
import sys
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from threading import Thread
from typing import NamedTuple

Drawn = tuple[list[Path], dict[str, str]]
"""The files written, and the error of each picture that failed."""


class Request(NamedTuple):
    """A picture of a sweep's folder, by its name."""

    folder: Path
    name: str
    formats: Sequence[str]
    extensions: Sequence[str]


class PlotWorker:
    """The other process, with the modules that this one would import, and no accelerator."""

    def __init__(self) -> None:
        code = f"import sys; sys.path[:] = {sys.path!r}; from {__name__} import main; main()"
        self.process = subprocess.Popen(
            [sys.executable, "-P", "-c", code],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env=os.environ | {"JAX_PLATFORMS": "cpu"},
            start_new_session=True,  # an interrupt of the terminal is for the first process
        )

    def draw(self, request: Request) -> Drawn | None:
        """None where it could not, for whatever reason."""
        requests, answers = self.process.stdin, self.process.stdout
        assert requests is not None
        assert answers is not None
        try:
            pickle.dump(request, requests)
            requests.flush()
            paths, failures = pickle.load(answers)
        except Exception:  # of as many kinds as there are ways for a process to end
            return None
        return None if failures else (paths, failures)

    def end(self) -> None:
        self.process.kill()  # a picture bears its name only once it is whole
        self.process.communicate()


@contextlib.contextmanager
def start_plot_worker(wanted: bool) -> Iterator[PlotWorker | None]:
    """A second process, where it is wanted and can be started."""
    other = None
    if wanted:
        with contextlib.suppress(OSError):
            other = PlotWorker()
    try:
        yield other
    finally:
        if other is not None:
            other.end()


def draw_shared(
    names: Sequence[str],
    here: Callable[[str], Drawn],
    there: Callable[[str], Drawn | None] | None,
    meanwhile: Callable[[], None],
) -> Drawn:
    """Draws pictures from both ends: here the last ones, in another process the first.

    Args:
      here, there: draw a picture of this name; what is not drawn there, for whatever reason, is
        drawn here.
      meanwhile: done here before anything is drawn.
    """
    left, found = deque(names), {}

    def draw_there() -> None:
        while there is not None and (name := _take_next(left.popleft)) is not None:
            drawn = there(name)
            if drawn is None:
                left.appendleft(name)
                return
            found[name] = drawn

    def draw_here() -> None:
        while (name := _take_next(left.pop)) is not None:
            found[name] = here(name)

    # a daemon, which nobody waits for where something is raised here
    thread = Thread(target=draw_there, daemon=True)
    thread.start()
    meanwhile()
    draw_here()
    thread.join()
    draw_here()
    paths = [path for name in names for path in found[name][0]]
    return paths, {k: error for name in names for k, error in found[name][1].items()}


def _take_next(take: Callable[[], str]) -> str | None:
    try:
        return take()
    except IndexError:  # the other one was faster
        return None


def main() -> None:
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # whatever else is printed is no answer
    from fadeout import plots
    from fadeout.extensions import load_extensions
    from fadeout.sweeps import reading

    sweep = functools.cache(reading.load)
    with contextlib.suppress(EOFError):
        while True:
            folder, name, formats, extensions = pickle.load(sys.stdin.buffer)
            load_extensions(extensions)
            drawn = plots.save_each(sweep(folder), folder, formats=formats, only=[name])
            pickle.dump(drawn, answers)
            answers.flush()
