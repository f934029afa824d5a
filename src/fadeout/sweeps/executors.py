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
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack, contextmanager, suppress
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import Any

from fadeout.registry import FadeoutError, lookup

_SCRATCH = ".submitit"
"""Below outputs: the logs and pickles of Slurm jobs."""


def core_count() -> int:
    """The cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


class _WorkerDied(RuntimeError):
    """A process ended before it had answered."""


class _Processes:
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
        process = self.context.Process(target=_answer_once, args=(theirs, function, arguments))
        process.start()
        theirs.close()
        self.running.add(process)
        if self.stopping:  # while it was being started
            process.terminate()
        try:
            failed, found = ours.recv()
        except EOFError:
            process.join()
            raise _WorkerDied(f"a worker ended with exit code {process.exitcode}") from None
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


def _answer_once(pipe: Connection, function: Callable, arguments: tuple) -> None:
    """Runs in a fresh process: answers one call, and ends if the caller has ended."""
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
        found = True, error if isinstance(error, Exception) else _WorkerDied(repr(error))
    pipe.send(found)


@contextmanager
def _fresh_processes(scratch: Path, **options: Any):
    """Fresh processes of this machine.

    Args:
      max_workers: how many at once.
    """
    pool = _Processes(**options)
    try:
        yield pool
    except BaseException:
        pool.shutdown(stop=True)
        raise
    pool.shutdown(stop=False)


@contextmanager
def _slurm_jobs(
    scratch: Path, folder: str | None = None, cluster: str | None = None, **options: Any
):
    """Slurm jobs by submitit; options of its `AutoExecutor.update_parameters`.

    Args:
      folder: of logs and pickles; shared.
      cluster: `slurm`, `local` or `debug`; by default what is there.
    """
    library = _import_extra("submitit", "submitit")
    place = Path(folder) if folder is not None else scratch / _SCRATCH
    auto = library.AutoExecutor(folder=place, cluster=cluster)
    auto.update_parameters(**options)
    if auto.cluster != "slurm" and cluster is None:
        print("submitit: there is no Slurm here, its jobs run on this machine", file=sys.stderr)
    jobs = _SubmititJobs(auto)
    try:
        yield jobs
    except BaseException as error:
        jobs.stop()
        _clean_up(place, logs=isinstance(error, KeyboardInterrupt))
        raise
    _clean_up(place, logs=True)


class _SubmititJobs:
    """Submitit's executor, which knows what it has submitted.

    Args:
      executor: submitit's.
    """

    def __init__(self, executor: Any):
        self.executor = executor
        self.submitted: list[Any] = []
        if executor.cluster != "slurm":
            self.workers_here = 2**31  # all that are asked for, at once

    def submit(self, function: Callable, *arguments: Any) -> Any:
        if not hasattr(self, "workers_here"):
            return self.executor.submit(function, *arguments)
        with _ignored_interrupts():
            job = self.executor.submit(_call_while_parent_lives, function, *arguments)
        job.cancel = lambda check=True: None  # its own prints a traceback, and leaves its workers
        self.submitted.append(job)
        return job

    def stop(self) -> None:
        """Ends the jobs of this machine: their workers finish what is in flight, as they see that
        their parent is gone. Slurm's are cancelled by whoever waits for them."""
        for job in self.submitted:
            with suppress(Exception):  # it ended by itself
                job._process.kill()
                job._process.wait()
        if self.submitted:
            time.sleep(_PARENT_SECONDS)


@contextmanager
def _ignored_interrupts() -> Iterator[None]:
    """Processes that are started here do not hear a terminal's Ctrl-C, which strikes all of its
    group: whoever started them tells them."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


_PARENT_SECONDS = 0.5


def _call_while_parent_lives(function: Callable, *arguments: Any) -> Any:
    """Calls a function; this process is interrupted when its parent has ended, and ends itself ten
    seconds later."""
    parent = os.getppid()

    def follow() -> None:
        while os.getppid() == parent:
            time.sleep(_PARENT_SECONDS / 2)
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(10)
        os._exit(1)

    threading.Thread(target=follow, daemon=True).start()
    return function(*arguments)


def _clean_up(folder: Path, logs: bool) -> None:
    """Removes submitit's pickles, which nobody should load again, and its logs if they tell of no
    failure."""
    for path in folder.glob("*") if folder.is_dir() else ():
        if logs or path.suffix in (".pkl", ".sh"):
            with suppress(OSError):
                path.unlink()
    with suppress(OSError):
        folder.rmdir()  # where it is empty


def _quiet_dask() -> None:
    """Keeps Dask's loggers off the terminal: it says all in what it raises."""
    for name in ("distributed", "distributed.worker.state_machine", "distributed.nanny", "tornado"):
        logging.getLogger(name).setLevel(logging.CRITICAL)


@contextmanager
def _dask_cluster(scratch: Path, address: str | None = None, **options: Any):
    """A Dask cluster.

    Args:
      address: of a scheduler that runs; otherwise a `LocalCluster` of these options is started.
    """
    library = _import_extra("distributed", "dask")
    if address is not None and options:
        raise FadeoutError("a dask address takes no other options: they are the cluster's own")
    _quiet_dask()
    target = {"address": address, "timeout": 10} if address else options
    with _ignored_interrupts():
        client = library.Client(**target)
    pool = client.get_executor(pure=False, retries=0)
    if address is None:
        client.run(_quiet_dask)
        pool.workers_here = len(client.scheduler_info()["workers"])
    try:
        yield pool
    except BaseException:
        with suppress(Exception):  # of a cluster whose workers have not all begun, say
            client.close(timeout=5)
        raise
    client.close()


EXECUTORS: dict[str, Callable | None] = {
    "local": None,
    "processes": _fresh_processes,
    "submitit": _slurm_jobs,
    "dask": _dask_cluster,
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


def _import_extra(module: str, name: str) -> Any:
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise FadeoutError(
            f"hydra.launcher.executor={name} needs an extra: pip install 'fadeout[{name}]'"
        ) from error
