"""The variables of a results dataset: names, dimensions and attributes."""

from collections.abc import Mapping

import numpy as np

from fadeout.config import Run
from fadeout.networks.probes import PROBES

FAILED = "failed"
STATUSES = ("solved", "unsolved", "trained", "diverged", FAILED)
"""How a run may end; *trained* are those of a task without classes, which cannot be solved."""

_UNITS = {"units": "1"}
VARIABLES = {
    "loss": {"long_name": "loss", **_UNITS},
    "accuracy": {"long_name": "share of examples classified right", **_UNITS},
    "validation_loss": {"long_name": "loss on examples held out", **_UNITS},
    "validation_accuracy": {"long_name": "share of held-out examples classified right", **_UNITS},
    "status": {"long_name": f"{', '.join(STATUSES[:-1])} or failed"},
    "error": {"long_name": "why a run failed"},
    "solved_step": {"long_name": "step since which every example is classified right"},
    "reached_step": {"long_name": "step since which the loss is below until_loss"},
    "diverged_step": {"long_name": "step of the first value that is not finite"},
    "diverged_layer": {"long_name": "weight layer of the first value that is not finite"},
    "diverged_backward": {
        "long_name": "1: that value was a gradient, 0: a preactivation",
        **_UNITS,
    },
    "last_kernel": {"long_name": "kernel after the last step", **_UNITS},
    "last_bias": {"long_name": "bias after the last step", **_UNITS},
    "last_gain": {"long_name": "gain of the normalisation after the last step", **_UNITS},
    "last_shift": {"long_name": "shift of the normalisation after the last step", **_UNITS},
    "last_factor": {"long_name": "trained factor of the branch after the last step", **_UNITS},
    "last_output": {"long_name": "output after the last step", **_UNITS},
    "last_target": {"long_name": "target", **_UNITS},
}
LAST_NETWORK = {
    "weights": {
        "last_kernel": ("layer", "fan_in", "fan_out"),
        "last_bias": ("layer", "fan_out"),
        "last_gain": ("layer", "fan_out"),
        "last_shift": ("layer", "fan_out"),
        "last_factor": ("layer",),
    },
    "outputs": {"last_output": ("example", "output_unit"), "last_target": ("example",)},
}
"""The variables of each word of `keep`, and their dims besides the run."""
KEPT_DIMS = {dim for kept in LAST_NETWORK.values() for dims in kept.values() for dim in dims}
AXES = {
    "step": {"long_name": "optimiser steps taken", **_UNITS},
    "layer": {"long_name": "weight layer; the readout is depth + 1", **_UNITS},
}
_DIMS = ("run", *AXES)


OVER_STEPS = ("loss", "accuracy", "validation_loss", "validation_accuracy")


def variable_dims(name: str) -> tuple[str, ...]:
    """The dims of a variable; what is not known here is a probe."""
    if name in OVER_STEPS:
        return _DIMS[:2]
    for own in LAST_NETWORK.values():
        if name in own:
            return ("run", *own[name])
    return _DIMS[:1] if name in VARIABLES else _DIMS


def variable_attributes(name: str) -> dict[str, str]:
    """Returns a variable's attributes: its long name and units."""
    if name in VARIABLES:
        return VARIABLES[name]
    probe = PROBES.get(name)  # None where it is of a file that is not imported here
    if probe is None:
        return {"long_name": name.replace("_", " "), **_UNITS}
    layers = "hidden layers and readout" if probe.readout else "hidden layers"
    return {"long_name": probe.title, "layers": layers, **_UNITS}


def is_share(name: str) -> bool:
    """Returns whether a variable is a share from 0 to 1, which is shown in per cent."""
    return name.endswith("accuracy") or (name in PROBES and PROBES[name].share)


def is_probe(name: str) -> bool:
    """Returns whether a variable is recorded in every layer."""
    return name not in VARIABLES


def axes_of(run: Run, sizes: Mapping[str, int]) -> dict[str, np.ndarray]:
    """The axes of what is recorded of runs like this; others than steps and layers count from 0."""
    training = run.training
    others = {dim: np.arange(size) for dim, size in sizes.items() if dim not in _DIMS}
    return {
        "step": np.arange(0, training.steps + 1, training.record_every),
        "layer": np.arange(1, run.model.depth + 2),
    } | others
