"""Who trains a sweep: this process, or workers of an engine that is reached by name.

An engine is anything that can `submit` like an executor of `concurrent.futures`. The libraries
behind it are extras, imported when they are asked for.
"""

import importlib
import logging
import multiprocessing
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import Any

from fadeout.registry import FadeoutError, lookup

SCRATCH = ".submitit"
"""Below outputs: the logs and pickles of Slurm jobs."""


def core_count() -> int:
    """The cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


class WorkerDied(RuntimeError):
    """A process ended before it had answered."""


class Processes:
    """A fresh process of this machine for each task, so that one that is killed takes no other
    down; all end with this one, whatever ends it.

    Args:
      max_workers: how many at once.
    """

    def __init__(self, max_workers: int = 4):
        if not isinstance(max_workers, int) or max_workers < 1:
            raise ValueError(f"max_workers must be at least 1, not {max_workers}")
        self.workers_here = max_workers
        self.threads = ThreadPoolExecutor(max_workers)
        self.context = multiprocessing.get_context("spawn")  # a fork with threads hangs
        self.running: set[Any] = set()
        self.stopping = False

    def submit(self, function: Callable, *arguments: Any) -> Future:
        return self.threads.submit(self.call, function, arguments)

    def call(self, function: Callable, arguments: tuple) -> Any:
        ours, theirs = self.context.Pipe(duplex=False)
        process = self.context.Process(target=answer, args=(theirs, function, arguments))
        process.start()
        theirs.close()
        self.running.add(process)
        if self.stopping:  # while it was being started
            process.terminate()
        try:
            failed, found = ours.recv()
        except EOFError:
            process.join()
            raise WorkerDied(f"a worker ended with exit code {process.exitcode}") from None
        finally:
            process.join()
            self.running.discard(process)
        if failed:
            raise found
        return found

    def shutdown(self, stop: bool) -> None:
        """Waits for all workers; `stop` asks them to finish what is in flight and no more."""
        self.stopping = stop
        self.threads.shutdown(wait=False, cancel_futures=stop)
        for process in list(self.running) * stop:
            process.terminate()
        self.threads.shutdown()


def answer(pipe: Connection, function: Callable, arguments: tuple) -> None:
    """What a process does: it answers once, and ends if the one that asked has ended."""
    # a terminal's Ctrl-C strikes the whole group: the one that asked tells its workers itself
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    parent = multiprocessing.parent_process()
    assert parent is not None

    def follow() -> None:
        wait([parent.sentinel])
        os._exit(1)

    threading.Thread(target=follow, daemon=True).start()
    try:
        found = False, function(*arguments)
    except BaseException as error:
        found = True, error if isinstance(error, Exception) else WorkerDied(repr(error))
    pipe.send(found)


@contextmanager
def processes(scratch: Path, **options: Any):
    """Fresh processes of this machine.

    Args:
      max_workers: how many at once.
    """
    pool = Processes(**options)
    try:
        yield pool
    except BaseException:
        pool.shutdown(stop=True)
        raise
    pool.shutdown(stop=False)


@contextmanager
def submitit(scratch: Path, folder: str | None = None, cluster: str | None = None, **options: Any):
    """Slurm jobs by submitit; options of its `AutoExecutor.update_parameters`.

    Args:
      folder: of logs and pickles; shared.
      cluster: `slurm`, `local` or `debug`; by default what is there.
    """
    library = extra("submitit", "submitit")
    auto = library.AutoExecutor(folder=folder or scratch / SCRATCH, cluster=cluster)
    auto.update_parameters(**options)
    if auto.cluster != "slurm":
        auto.workers_here = 2**31  # all that are asked for, at once
        if cluster is None:
            print("submitit: there is no Slurm here, its jobs run on this machine", file=sys.stderr)
    yield auto


@contextmanager
def dask(scratch: Path, address: str | None = None, **options: Any):
    """A Dask cluster.

    Args:
      address: of a scheduler that runs; otherwise a `LocalCluster` of these options is started.
    """
    library = extra("distributed", "dask")
    if address is not None and options:
        raise FadeoutError("a dask address takes no other options: they are the cluster's own")
    logging.getLogger("distributed").setLevel(logging.CRITICAL)  # it says all in what it raises
    logging.getLogger("tornado").setLevel(logging.CRITICAL)
    target = {"address": address, "timeout": 10} if address else options
    with library.Client(**target) as client:
        pool = client.get_executor(pure=False, retries=0)
        if address is None:
            pool.workers_here = len(client.scheduler_info()["workers"])
        yield pool


EXECUTORS: dict[str, Callable | None] = {
    "local": None,
    "processes": processes,
    "submitit": submitit,
    "dask": dask,
}


@contextmanager
def executor(name: str, options: Mapping[str, Any], scratch: Path = Path()) -> Iterator[Any]:
    """The executor of this name, for as long as the context lasts; None for this process.

    Args:
      scratch: a folder that all workers share, for what an engine keeps itself.

    Raises:
      FadeoutError: unknown name, a library that is not installed, or an option that it refuses.
    """
    engine = lookup(EXECUTORS, name, "hydra.launcher.executor")
    if engine is None:
        if options:
            raise FadeoutError("hydra.launcher.options are of an executor: choose one, not local")
        yield None
        return
    with ExitStack() as stack:
        try:
            workers = stack.enter_context(engine(scratch, **options))
        except FadeoutError:
            raise
        except Exception as error:  # of as many kinds as there are engines
            why = (str(error).strip() or type(error).__name__).splitlines()[0]
            raise FadeoutError(f"{name} refuses hydra.launcher.options: {why}") from error
        yield workers


def extra(module: str, name: str) -> Any:
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise FadeoutError(
            f"hydra.launcher.executor={name} needs an extra: pip install 'fadeout[{name}]'"
        ) from error
