"""fadeout: what an activation, a depth and an initialisation do to the signal and its gradient."""

import importlib

_DOORS = {
    "load": "fadeout.sweeps.store",
    "train": "fadeout.sweeps.sweep",
    "Run": "fadeout.config",
    "Activation": "fadeout.config",
    "Init": "fadeout.config",
    "Task": "fadeout.config",
    "Model": "fadeout.config",
    "Optimizer": "fadeout.config",
    "Training": "fadeout.config",
    "FadeoutError": "fadeout.registry",
    "identity": "fadeout.training.resolve",
    "MLP": "fadeout.networks.model",
    "Neuron": "fadeout.networks.model",
}

__all__ = sorted(_DOORS)


def __getattr__(name: str):
    """Imports a public name when it is first used: completion and --help need no JAX."""
    if name not in _DOORS:
        raise AttributeError(f"module 'fadeout' has no attribute {name!r}")
    return getattr(importlib.import_module(_DOORS[name]), name)
