"""What several tests need."""

import jax
import numpy as np

from fadeout.config import Run
from fadeout.programs import PREPARED, batch_of, precision, resolve, stack_values
from fadeout.training import prepare


def network(run: Run):
    """One run's examples and parameters, drawn without lanes: (x, t), [(kernel, bias), ...]."""
    run = resolve(run)
    with precision(run):
        values = jax.tree.map(lambda v: v[0], stack_values([run], PREPARED))
        examples, model = prepare(batch_of(run).preparation, values)
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
