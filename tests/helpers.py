"""What several tests need."""

import os
import subprocess
import sys
from pathlib import Path

import jax
import numpy as np

from conftest import COMPILED
from fadeout.config import Run
from fadeout.programs import batch_of, precision, prepare_values, resolve
from fadeout.training import prepare

ROOT = Path(__file__).parents[1]
CONF = ROOT / "conf"


def script(name, *arguments, cwd, **environment):
    if name == "train" and not {"--cfg", "-sc"} & set(arguments):
        arguments = (*arguments, f"cache={COMPILED}")
    return subprocess.run(
        [sys.executable, ROOT / "scripts" / f"{name}.py", *arguments],
        cwd=cwd,
        env=os.environ | environment,
        capture_output=True,
        text=True,
        timeout=300,
    )


def network(run: Run):
    """One run's examples and parameters, drawn without lanes: (x, t), [(kernel, bias), ...]."""
    run = resolve(run)
    with precision(run):
        preparation = batch_of(run).preparation
        values = jax.tree.map(lambda v: v[0], prepare_values(preparation, [run]))
        examples, model = prepare(preparation, values)
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
