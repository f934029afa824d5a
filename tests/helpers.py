"""What several tests need."""

import atexit
import functools
import itertools
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import jax
import numpy as np
import xarray as xr

from conftest import COMPILED
from fadeout.config import Run
from fadeout.training.compile_groups import compile_group, init_values, precision_of
from fadeout.training.initialization import initialize_run
from fadeout.training.resolve import resolve

ROOT = Path(__file__).parents[1]
CONF = ROOT / "conf"


def script(name, *arguments, cwd, pictures=False, **environment):
    """Runs a script, or else a subcommand, in a process of its own.

    Where the environment differs from that of the tests, the process starts from scratch.

    Args:
      pictures: whether a training draws any, which takes longer than most of what is tested.
    """
    if name == "train" and not {"--cfg", "-sc"} & set(arguments):
        arguments = (*arguments, f"cache={COMPILED}")
        if not pictures and not any(a.startswith(("figure=", "formats=")) for a in arguments):
            arguments = (*arguments, "formats=[]")
    path, arguments = ROOT / "scripts" / f"{name}.py", list(map(str, arguments))
    words = [str(path)] if path.exists() else ["-m", "fadeout", name]
    if environment or decisive() != AT_FIRST:
        command, environment = [sys.executable, *words, *arguments], os.environ | environment
        return subprocess.run(
            command, cwd=cwd, env=environment, capture_output=True, text=True, timeout=300
        )
    with tempfile.TemporaryDirectory() as folder:
        told = [Path(folder) / "stdout", Path(folder) / "stderr"]
        task = {"words": [*words, *arguments], "cwd": str(cwd)}
        task |= {"environment": dict(os.environ), "stdout": str(told[0]), "stderr": str(told[1])}
        print(json.dumps(task), file=fork_server().stdin, flush=True)
        status = fork_server().stdout.readline()
        assert status, "the process that forks for commands is gone"
        status = int(status)
        return subprocess.CompletedProcess(arguments, status, *(file.read_text() for file in told))


def decisive():
    """The variables that libraries read while they are imported."""
    return {name: v for name, v in os.environ.items() if name.startswith(("JAX_", "XLA_", "MPL"))}


AT_FIRST = decisive()


@functools.cache
def fork_server():
    """The process that forks for this process's commands."""
    command = [sys.executable, Path(__file__).with_name("fork_server.py")]
    started = subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=ROOT
    )
    atexit.register(started.communicate)
    return started


def drawn_alone(run: Run):
    """One run's examples and network, drawn without lanes."""
    like = compile_group(run).init_key.run
    values = init_values(like, [run])
    examples, model = initialize_run(
        like, jax.tree.map(lambda v: v[..., 0] if v.ndim else v, values)
    )
    return examples, model.trim(run.model.depth)


def network(run: Run):
    """One run's examples and parameters, drawn without lanes: (x, t), [(kernel, bias), ...]."""
    run = resolve(run)
    with precision_of(run):
        examples, model = drawn_alone(run)
        return (np.asarray(examples.inputs), np.asarray(examples.targets)), layers(model)


def layers(model, lane: int | None = None):
    """A network's weights, layer by layer; of one lane, where it has lanes."""

    def take(x):
        return np.asarray(x[...] if lane is None else x[..., lane])

    hidden = take(model.hidden.kernel), take(model.hidden.bias)
    return [
        (take(model.first.kernel), take(model.first.bias)),
        *zip(*hidden, strict=True),
        (take(model.readout.kernel), take(model.readout.bias)),
    ]


def made(axes, depth=6, steps=(0, 10), seeds=40, labels=None, **values):
    """Results of a study: each value a function of a run's labels, giving [step, layer], [layer] or
    a number, or for `loss` and `accuracy` [step]."""
    combinations = [
        dict(zip(axes, combination, strict=True)) | {"seed": seed}
        for *combination, seed in itertools.product(*axes.values(), range(seeds))
    ]
    shared = {"depth": depth, "width": 64, "steps": steps[-1]} | (labels or {})
    shared = {"residual": 0.0, "residual_scale": "constant", "normalization": "none"} | shared
    runs = [shared | combination for combination in combinations]
    deepest = max(run["depth"] for run in runs)
    layers = np.arange(1, deepest + 2)
    variables = {}
    for name, value in values.items():
        if name in ("status", "solved_step"):
            variables[name] = "run", [value(run) for run in runs]
        elif name in ("loss", "accuracy"):
            each = [np.broadcast_to(value(run), len(steps)) for run in runs]
            variables[name] = ("run", "step"), np.array(each, float)
        else:
            each = []
            for run in runs:
                whole = np.full((len(steps), layers.size), np.nan)
                whole[:, : run["depth"] + 1] = value(run)
                each.append(whole)
            variables[name] = ("run", "step", "layer"), np.array(each)
    coordinates = {name: ("run", [run[name] for run in runs]) for name in runs[0]}
    return xr.Dataset(variables, coordinates | {"step": list(steps), "layer": layers})
