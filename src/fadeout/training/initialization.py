"""A run's examples and its network, drawn from its own seed."""

import functools
import itertools

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, ArrayLike, Int, UInt32

from fadeout.config import MOST_DEPTH, Run
from fadeout.networks import keys
from fadeout.networks.activations import get_activation
from fadeout.networks.initializers import FROM_DATA, FROM_FILE
from fadeout.networks.lanes import per_lane
from fadeout.networks.model import MLP
from fadeout.networks.parametrization import readout_factor
from fadeout.networks.tasks import (
    STANDARDIZED,
    Examples,
    classes_of,
    get_task,
    make_examples,
    shuffle,
)
from fadeout.networks.weight_files import read_weights

EXAMPLES, NETWORK, HELD, SHUFFLED = range(4)
"""The number below a run's key of what is drawn."""


def run_keys(seeds: UInt32[np.ndarray, "run"], depth: int) -> dict[str, UInt32[np.ndarray, "..."]]:
    """Returns the keys of the draws of several runs, the run as last axis."""
    examples, network, held = np.moveaxis(
        keys.fold_in(keys.seed_key(seeds), (EXAMPLES, NETWORK, HELD)), 1, 0
    )
    found = {"examples": examples, "layers": keys.layer_keys(network, depth), "held": held}
    return {name: np.moveaxis(of, 0, -1) for name, of in found.items()}


def depth_bucket(depth: int) -> int:
    """Returns for how many hidden layers a program has room: the next power of 4.

    >>> [depth_bucket(depth) for depth in (1, 4, 5, 64, 65)]
    [4, 4, 16, 64, 256]
    """
    return min(next(4**n for n in itertools.count(1) if 4**n >= depth), MOST_DEPTH)


def network_shapes(run: Run, features: int, outputs: int, room: int) -> MLP:
    """The shapes and dtypes of a run's network, with room for so many hidden layers."""

    def create(layers):
        return MLP.create(
            layers, features, run.model.width, jnp.dtype(run.training.dtype), outputs=outputs,
            **extra_parameters(run), init={"name": "zeros"},
        )  # fmt: skip

    return jax.eval_shape(create, keys.layer_keys(keys.seed_key(0), room))


def initialize_lanes(run: Run, values: dict) -> tuple[Examples, MLP]:
    """Draws examples and networks, one run per lane."""
    return per_lane(functools.partial(initialize_run, run))(values)


def initialize_run(run: Run, values: dict) -> tuple[Examples, MLP]:
    """Draws one run's examples and its network from its own seed."""
    dtype, count = jnp.dtype(run.training.dtype), values.get("depth", run.model.depth) - 1
    drawn = values["keys"]
    examples = make_examples(
        keys.drawing_keys(drawn["examples"], get_task(run.task.name)),
        dtype,
        name=run.task.name,
        inputs=run.task.inputs,
        targets=run.task.targets,
        **dict(run.task.options) | values["task"],
    )
    if run.training.held_out:
        option = STANDARDIZED.get(get_task(run.task.name), "")
        examples = examples.held(
            keys.drawing_keys(drawn["held"], shuffle),
            run.training.held_out,
            dict(run.task.options).get(option, False),
        )
    model = MLP.create(
        drawn["layers"],
        examples.inputs.shape[1],
        run.model.width,
        dtype,
        count,
        _output_count(run),
        **extra_parameters(run),
        init={"name": run.init.name} | dict(run.init.options) | values["init"],
    )
    if run.init.name in FROM_FILE:
        model = model.with_weights(read_weights(run.init.npz), values["init"]["gain"])
    if run.init.name in FROM_DATA:
        own = dict(run.activation.options) | values["activation"]
        activation = get_activation(run.activation.name, **own)
        model = model.scaled(examples.inputs, activation, values["init"]["gain"], count)
    if run.model.parametrization == "mup" and run.init.name not in FROM_FILE:
        own = run.model
        model = model.with_readout_scaled(
            readout_factor(own.parametrization, own.width, own.base_width)
        )
    return examples, model if run.model.bias else model.without_biases()


def extra_parameters(run: Run) -> dict[str, bool]:
    """Returns which parameters a network trains besides kernels and biases, as arguments of
    `MLP.create`."""
    rezero = run.model.residual_scale == "zero" and bool(run.model.residual)
    return {"affine": run.model.affine, "rezero": rezero}


def _output_count(run: Run) -> int:
    """How many outputs its network has: one, or of more than two classes one for each."""
    classes = classes_of(run.task.name, dict(run.task.options))
    return classes if classes > 2 else 1


def holdout_order(seeds: UInt32[ArrayLike, "run"], count: int) -> Int[Array, "{count} run"]:
    """Returns the order of the examples in which the held-out ones come first."""

    return jax.vmap(lambda seed: shuffle(run_key(seed, HELD), count), out_axes=-1)(seeds)


def run_key(seed: UInt32[Array, ""], number: int) -> Array:
    """Returns a run's key of this number, inside a program. `run_keys` makes them on the host."""
    return jax.random.fold_in(jax.random.key(seed, impl=keys.GENERATOR), number)
