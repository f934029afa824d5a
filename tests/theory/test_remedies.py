"""Theory of residual and normalised networks against networks that are drawn."""

import math

import numpy as np
import pytest

import fadeout
from fadeout import theory
from fadeout.config import Activation, Init, Model, Run, Task, Training

DEPTH, WIDTH = 20, 256
CASES = [
    ("tanh", 1.0, {"residual": 1.0}),
    ("relu", 2.0, {"residual": 1.0, "residual_scale": "sqrt_depth"}),
    ("sigmoid", 1.0, {"residual": 1.0}),
    ("relu", 2.0, {"normalization": "rms"}),
    ("relu", 0.5, {"normalization": "layer"}),
    ("tanh", 1.0, {"normalization": "rms"}),
    ("sigmoid", 1.0, {"normalization": "layer"}),
    ("tanh", 1.5, {"normalization": "rms", "residual": 0.5}),
]


def measured(activation, weight_variance, model, task, seeds=4):
    runs = [
        Run(Activation(activation), Init("mean_field", weight_variance=weight_variance), task,
            Model(DEPTH, WIDTH, **model), training=Training(0, 1),
            probes=("delta_norm", "activation_std", "activation_mean"), seed=seed)
        for seed in range(seeds)
    ]  # fmt: skip
    return fadeout.train(runs, quiet=True).isel(step=0).sel(layer=slice(1, DEPTH))


@pytest.mark.parametrize(("activation", "weight_variance", "model"), CASES)
def test_wide_networks_follow_theory(activation, weight_variance, model):
    found = measured(activation, weight_variance, model, Task(inputs="bipolar"))
    scale = model.get("residual_scale", "constant")
    branch = theory.branch_factor(model.get("residual", 0.0), scale, DEPTH)
    known = theory.profile(activation, DEPTH, weight_variance, 0.0, weight_variance, branch,
                           "normalization" in model)  # fmt: skip
    logs = np.log10(found.delta_norm.values)
    decades = (logs[:, 0] - logs[:, -1]).mean() / (DEPTH - 1)
    assert decades == pytest.approx(known.gradient[0] / (DEPTH - 1), abs=0.01)
    moments = [theory.moments(activation, q) for q in known.seen]
    spread = np.sqrt([max(m.square - m.value**2, 0) for m in moments])
    np.testing.assert_allclose(found.activation_std.mean("run"), spread, rtol=0.12)


def test_batch_normalised_relu_explodes_as_yang_says():
    task = Task("teacher", examples=128, features=16)
    found = measured("relu", 1.0, {"normalization": "batch"}, task, seeds=3)
    logs = np.log10(found.delta_norm.values)
    gain = 10 ** (2 * (logs[:, 2] - logs[:, -3]).mean() / (DEPTH - 5))
    assert gain == pytest.approx(theory.BATCH_NORM_RELU, abs=0.06)


def test_closed_forms():
    plain = theory.profile("tanh", 6, 1.3, 0.1, 0.7)
    np.testing.assert_allclose(plain.variances, theory.variances("tanh", 6, 1.3, 0.1, 0.7))
    np.testing.assert_allclose(plain.gradient, theory.gradient_profile("tanh", 6, 1.3, 0.1, 0.7))
    relu = theory.profile("relu", 5, 2.0, branch=0.5)
    np.testing.assert_allclose(relu.variances, 1.25 ** np.arange(5))
    np.testing.assert_allclose(relu.gains, 1.25)
    rezero = theory.profile("gelu", 5, 2.0, branch=0.0)
    np.testing.assert_array_equal(rezero.variances, 1)
    np.testing.assert_array_equal(rezero.gradient, 0)
    assert theory.normalised_chi("relu") == pytest.approx(1, rel=1e-12)
    assert theory.normalised_chi("relu", 0.5) == pytest.approx(0.5, rel=1e-12)
    scaled = theory.profile("relu", 400, 2.0, branch=theory.branch_factor(1.0, "sqrt_depth", 400))
    assert scaled.variances[-1] == pytest.approx(math.e, rel=0.01), "(1 + 1/n)^n"
    assert theory.profile(
        "identity", 4, 3.0, variance=3.0, normalised=True
    ).gradient == pytest.approx(0, abs=1e-5)  # EPSILON
    tiny = theory.profile("tanh", 3, 1.0, variance=1e-5, normalised=True)
    assert tiny.seen[0] == pytest.approx(0.5), "beside EPSILON a norm does not bring it to 1"
