"""A process that has imported what commands need, and forks for each: a command of a test runs in a
process of its own, and does not wait for imports. A task is a line of JSON on standard input, its
exit status one on standard output."""

import importlib
import json
import os
import runpy
import signal
import sys
import warnings

import jax

LONGEST = 300
"""Seconds that a command may take."""


def serve() -> dict:
    """Forks for every task; only the forks come back, each with its own."""
    for line in sys.stdin:
        with warnings.catch_warnings(action="ignore"):  # JAX has no threads yet that could be lost
            child = os.fork()
        if child == 0:
            return json.loads(line)
        _, status = os.waitpid(child, 0)
        print(os.waitstatus_to_exitcode(status), flush=True)
    sys.exit()


def become(task: dict) -> None:
    os.setsid()
    signal.signal(signal.SIGALRM, lambda *_: os.killpg(0, signal.SIGKILL))
    signal.alarm(LONGEST)
    os.chdir(task["cwd"])
    os.environ.clear()
    os.environ.update(task["environment"])
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    for number, name in ((1, "stdout"), (2, "stderr")):
        os.dup2(os.open(task[name], os.O_WRONLY | os.O_CREAT), number)
    if task["words"][0] == "-m":
        sys.argv, sys.path[0] = task["words"][1:], task["cwd"]
        runpy.run_module(sys.argv[0], run_name="__main__", alter_sys=True)
    else:
        sys.argv = task["words"]
        sys.path[0] = os.path.dirname(sys.argv[0])
        runpy.run_path(sys.argv[0], run_name="__main__")


NEEDED = (
    "fadeout.cli.app", "fadeout.cli.compose", "fadeout.cli.console", "fadeout.pages",
    "fadeout.plots", "fadeout.sweeps.distribute", "fadeout.sweeps.sweep",
    "hydra_plugins.fadeout_lanes",
)  # fmt: skip

if __name__ == "__main__":
    for name in NEEDED:
        importlib.import_module(name)
    assert not jax._src.xla_bridge._backends, "its threads would not survive a fork"
    become(serve())
