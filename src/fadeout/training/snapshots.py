"""Trains one network and returns copies of it at evenly spaced steps, to plot its surface."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np

from fadeout.config import Run
from fadeout.networks.activations import get_activation
from fadeout.networks.model import MLP
from fadeout.registry import FadeoutError
from fadeout.training.compile_groups import compile_group, precision_of
from fadeout.training.fit import make_remedy
from fadeout.training.programs import draw_networks, fit_networks
from fadeout.training.resolve import resolve


def train_with_snapshots(run: Run, frames: int) -> list[MLP]:
    """One network at step 0 and after each of `frames` equal parts of its training.

    Args:
      run: trained by sgd at a constant rate, which needs no memory from one part to the next, for
        a multiple of `frames` steps.

    Returns:
      frames + 1 networks.

    Raises:
      FadeoutError: another optimiser, minibatches, or steps that cannot be cut so.

    >>> from fadeout.config import Optimizer, Training
    >>> run = Run(optimizer=Optimizer("sgd"), training=Training(20, 20))
    >>> network = train_with_snapshots(run, frames=2)[-1]
    >>> network.first.kernel.shape
    (2, 8)
    """
    run = resolve(run)
    if (run.optimizer.name, run.optimizer.schedule) != ("sgd", "constant"):
        raise FadeoutError("a film is of optimizer=sgd with a constant rate, which has no memory")
    if run.training.batch_size is not None:
        raise FadeoutError("a film is of steps that see all examples: leave training.batch_size")
    if frames < 1:
        raise FadeoutError(f"a film has at least 1 frame, not {frames}")
    if run.training.steps % frames:
        raise FadeoutError(f"{run.training.steps} steps cannot be cut into {frames} frames")
    part = run.training.steps // frames
    training = dataclasses.replace(run.training, steps=part, record_every=part)
    run = dataclasses.replace(run, training=training, probes=())
    group = compile_group(run)
    full, device = [run] * group.program.lanes, jax.local_devices()[0]
    with precision_of(run):
        examples, model = draw_networks(group, full, device)
        models = [model]
        for _ in range(frames):
            models.append(fit_networks(group, full, device, examples, models[-1]).model)
    models = [model.trim(run.model.depth) for model in models]
    return [jax.tree.map(lambda x: np.asarray(x)[..., 0], model) for model in models]


def network_output(run: Run, model: MLP, inputs: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Returns the output of a network for some inputs.

    Args:
      run: whose network it is.
      inputs: [example, feature].

    Returns:
      The hidden preactivations [layer, example, unit], and the output [example].

    Raises:
      FadeoutError: the network has batch normalisation.
    """
    if run.model.normalization == "batch":
        raise FadeoutError(
            "with batch normalisation what a network makes of an input depends on all others"
        )
    chosen = run.activation
    activation = get_activation(chosen.name, chosen.surrogate, **dict(chosen.options))
    remedy = make_remedy(run, run.model.residual, run.model.depth)
    model = jax.tree.map(jnp.asarray, model)
    z, output = model(jnp.asarray(inputs, run.training.dtype), activation, remedy)
    return np.asarray(z), np.asarray(output)[:, 0]
