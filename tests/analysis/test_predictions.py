"""What theory draws beside measurements: for every option of every table, or nothing."""

import numpy as np
import pytest

from fadeout.analysis.predictions import PREDICTIONS
from fadeout.config import Activation, Init, Model, Optimizer, Run, Task, Training
from fadeout.networks.activations import ACTIVATIONS
from fadeout.networks.initializers import INITIALIZERS
from fadeout.networks.optimizers import OPTIMIZERS
from fadeout.networks.tasks import TASKS
from fadeout.training.resolve import resolve

BASE = {"model": Model(3, 8), "task": Task(inputs="bipolar")}
SQUARED = Training(loss_function="squared_error")
OPTIONS = {
    "activation": [Run(Activation(name), **BASE) for name in ACTIVATIONS],
    "init": [Run(init=Init(name), **BASE) for name in INITIALIZERS if name != "given"],
    "task": [Run(task=Task(name), model=Model(3, 8), training=SQUARED)
             for name in TASKS if name != "table"],
    "optimizer": [Run(optimizer=Optimizer(name), **BASE) for name in OPTIMIZERS],
    "studies": [
        Run(Activation("identity"), Init("constant"), Task("linear", inputs="bipolar"),
            optimizer=Optimizer("sgd"), training=SQUARED),
        Run(Activation("relu"), Init("he_normal"), Task("teacher", examples=1)),
    ],
}  # fmt: skip


def labels_of(run: Run) -> dict:
    """As a dataset has them: what an option lacks is NaN, which no two runs share."""
    return {name: value for name, value in resolve(run).labels().items() if value is not None}


@pytest.mark.parametrize("group", OPTIONS)
def test_every_prediction_is_numbers_or_nothing_whichever_label_is_missing(group):
    drawn = set()
    for run in OPTIONS[group]:
        labels = labels_of(run)
        for dropped in (None, *labels):
            left = {name: value for name, value in labels.items() if name != dropped}
            for (quantity, axis), expect in PREDICTIONS.items():
                at = {"layer": np.arange(1, 5), "depth": np.array([2, 3])}.get(
                    axis, np.arange(0.0, 30, 10)
                )
                expected = expect(left, at)
                if expected is not None:
                    assert np.shape(expected) == at.shape, (quantity, dropped)
                    drawn |= {(quantity, run)}
    assert drawn, "a test of nothing"


def test_an_activation_with_a_parameter_is_predicted_with_its_own():
    gentle, steep = (
        PREDICTIONS["delta_norm", "layer"](
            labels_of(Run(Activation("leaky_relu", slope=slope), **BASE)), np.arange(1, 4)
        )
        for slope in (0.5, 0.01)
    )
    assert gentle[0] > steep[0]


def test_a_surrogates_slope_is_not_predicted():
    run = Run(Activation("step", surrogate="sigmoid"), **BASE)
    assert PREDICTIONS["delta_norm", "layer"](labels_of(run), np.arange(1, 4)) is None
