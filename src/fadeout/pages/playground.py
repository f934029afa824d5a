"""What the playground needs of fadeout: activations, tasks, initialisers, optimisers, words."""

import contextlib
import json
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from fadeout.analysis.looks import hue_looks
from fadeout.analysis.verdicts import EXPLODING, VANISHING
from fadeout.networks.activations import ACTIVATIONS, SATURATED_SLOPE
from fadeout.networks.initializers import variance_scaling
from fadeout.networks.optimizers import OPTIMIZERS
from fadeout.networks.remedies import EPSILON
from fadeout.networks.tasks import make_examples
from fadeout.pages.translate import javascript
from fadeout.registry import FadeoutError, parameters
from fadeout.theory.gaussian import compile_value_and_slope, steepest_slope
from fadeout.theory.mean_field import critical

_TASKS: dict[str, dict[str, Any]] = {
    "xor": {},
    "and": {},
    "parity": {"bits": 4},
    "noisy_xor": {"examples": 32, "noise": 0.2},
    "circles": {"examples": 48},
    "moons": {"examples": 48},
    "spirals": {"examples": 64, "arms": 2},
}
"""The tasks of the page, of one output, and their options."""

INITS = ("glorot_normal", "lecun_normal", "he_normal", "torch", "critical", "normal", "zeros")
_RULES = ("sgd", "momentum", "adam")


def playground_data() -> dict[str, Any]:
    """All that the page knows besides its own code."""
    return {
        "activations": {name: _activation_facts(name) for name in _translate_activations()},
        "flat": SATURATED_SLOPE,
        "epsilon": EPSILON,
        "vanishing": VANISHING,
        "exploding": EXPLODING,
        "tasks": {name: _examples_of(name, options) for name, options in _TASKS.items()},
        "inits": {
            name: dict(
                zip(("scale", "fan"), variance_scaling(name) or (None, "fan_in"), strict=True)
            )
            for name in INITS
        },
        "optimizers": {
            name: {key: p.default for key, p in parameters(OPTIMIZERS[name]).items()}
            for name in _RULES
        },
    }


def _activation_facts(name: str) -> dict[str, Any]:
    """An activation's colour, its steepest slope, and the weight variance at its edge of chaos."""
    edge = [point for point in critical(name) if point.variance > 0] or critical(name)
    return {
        "color": hue_looks([name])[name]["color"],
        "steepest": steepest_slope(name),
        "critical": edge[0].weight_variance if edge else None,
    }


def _examples_of(name: str, options: dict[str, Any]) -> dict[str, Any]:
    """A task's examples, with corners at -1 and 1, as the seed 0 draws them."""
    key = jax.random.fold_in(jax.random.key(0), 0)
    found = make_examples(key, jnp.float32, name=name, inputs="bipolar", **options)
    return {
        "inputs": np.asarray(found.inputs, float).round(6).tolist(),
        "targets": np.asarray(found.targets, float).tolist(),
        "options": options,
    }


def _translate_activations() -> dict[str, str]:
    """Every activation and its slope as JavaScript, but for those of which something has no
    translation, as a user's own may."""
    found = {}
    for name, function in ACTIVATIONS.items():
        with contextlib.suppress(FadeoutError):
            found[name] = javascript(compile_value_and_slope(function))
    return found


def functions() -> str:
    """`_translate_activations` as the page's own table."""
    own = [f'"{name}": {text},' for name, text in _translate_activations().items()]
    return "\n".join(["const PHI = {", *own, "};"])


def page_tours() -> dict[str, Any]:
    """The page's tours and starting points, each with its texts in both languages."""
    from fadeout.pages import read_text

    return json.loads(read_text("tours.json"))
