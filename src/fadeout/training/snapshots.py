"""Networks as they are at some steps of their training, and what they answer."""

import functools
from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np

from fadeout.config import Run
from fadeout.networks.activations import get_activation, is_by_layer, layers_of_name
from fadeout.networks.losses import OUTPUTS
from fadeout.networks.model import MLP
from fadeout.networks.tasks import Examples
from fadeout.registry import FadeoutError
from fadeout.training.compile_groups import compile_group, precision_of
from fadeout.training.fit import fit_snapshots, make_remedy
from fadeout.training.initialization import holdout_order
from fadeout.training.programs import draw_networks, fit_values
from fadeout.training.resolve import resolve


def train_with_snapshots(run: Run, steps: Sequence[int]) -> list[MLP]:
    """One network at some steps of its training.

    Args:
      steps: in rising order, from 0 to `run.training.steps`.

    Returns:
      As many networks as steps.

    Raises:
      FadeoutError: steps that the run does not take.

    >>> from fadeout.config import Training
    >>> network = train_with_snapshots(Run(training=Training(20, 20)), [0, 10, 20])[-1]
    >>> network.first.kernel.shape
    (2, 8)
    """
    taken = [int(step) for step in steps]
    most = run.training.steps
    if not taken or taken != sorted(taken) or not 0 <= taken[0] <= taken[-1] <= most:
        raise FadeoutError(f"snapshots are of rising steps from 0 to {most}, not {taken}")
    run = resolve(run)
    group = compile_group(run)
    full, device = [run] * group.program.lanes, jax.local_devices()[0]
    with precision_of(run):
        drawn = draw_networks(group, full, device)
        train = jax.jit(functools.partial(fit_snapshots, group.program))
        parts = jnp.asarray(np.diff(taken, prepend=0))
        found = train(parts, jax.device_put(fit_values(group, full), device), *drawn)
    models = [jax.tree.map(lambda x, n=n: np.asarray(x)[n], found) for n in range(len(taken))]
    return [_first_lane(model.trim(run.model.depth)) for model in models]


def draw_examples(run: Run) -> Examples:
    """The examples of a run as it trains on them, in the task's order, [example, feature] and
    [example]; what it holds out is among them."""
    run = resolve(run)
    group = compile_group(run)
    with precision_of(run):
        drawn, _ = draw_networks(group, [run] * group.program.lanes, jax.local_devices()[0])
        inputs, targets, *held = _first_lane(drawn)
        if not run.training.held_out:
            return Examples(inputs, targets)
        inputs, targets = (np.concatenate(p) for p in zip(held, (inputs, targets), strict=True))
        back = np.argsort(
            np.asarray(holdout_order(np.array([run.seed], np.uint32), len(targets)))[:, 0]
        )
    return Examples(inputs[back], targets[back])


def _first_lane(tree):
    return jax.tree.map(lambda x: np.asarray(x)[..., 0], tree)


def network_output(run: Run, model: MLP, inputs: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Returns the output of a network for some inputs.

    Args:
      run: whose network it is.
      inputs: [example, feature].

    Returns:
      The hidden preactivations [layer, example, unit], and the output [example, output].

    Raises:
      FadeoutError: the network has batch normalisation.
    """
    if run.model.normalization == "batch":
        raise FadeoutError(
            "with batch normalisation what a network makes of an input depends on all others"
        )
    run = resolve(run)
    remedy = make_remedy(run, run.model.residual, run.model.depth)
    with precision_of(run):
        model = jax.tree.map(jnp.asarray, model)
        h = jnp.asarray(inputs, run.training.dtype)
        sums: list[jax.Array] = []
        for number, phi in enumerate(_activations_of(run)):
            dense = model.hidden.at(number - 1) if number else model.first
            z = dense.preactivation(h)
            z = remedy.add_skip(sums[-1], z, dense) if number else z
            h = phi(remedy.normalise(z, dense))
            sums.append(z)
        output = OUTPUTS[run.model.output](model.readout.preactivation(h))
        return np.stack([np.asarray(z) for z in sums]), np.asarray(output)


def _activations_of(run: Run) -> list:
    """The activation of every hidden layer."""
    chosen = run.activation
    if is_by_layer(chosen.name):
        return [get_activation(name, chosen.surrogate) for name in layers_of_name(chosen.name)]
    activation = get_activation(chosen.name, chosen.surrogate, **dict(chosen.options))
    return [activation] * run.model.depth
