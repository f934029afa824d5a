"""Golden values: a change of the package that changes a run's numbers must raise NUMERICS.

They differ by rounding between processors and versions of JAX, and by more where the numerics
changed. After raising `config.NUMERICS`, write them anew: python tests/training/test_numerics.py
"""

import json
from pathlib import Path

import numpy as np
import pytest

from fadeout.config import NUMERICS, Activation, Init, Model, Optimizer, Run, Task, Training
from fadeout.training.programs import train_runs

GOLDEN = Path(__file__).parent / "numerics.json"
PROBES = ("delta_norm", "gradient_norm", "activation_std", "weight_norm")
SHORT = Training(steps=10, record_every=5)

RUNS = {
    "defaults": Run(training=SHORT, probes=PROBES),
    "deep sigmoid, sgd": Run(
        Activation("sigmoid"), Init("lecun_normal", bias_variance=0.1),
        Task("noisy_xor", inputs="bipolar"), Model(12, 6), Optimizer("sgd", 0.3), SHORT, PROBES, 7,
    ),
    "wide relu in float64": Run(
        Activation("relu"), Init("he_uniform"), Task("parity", bits=3), Model(2, 64),
        Optimizer("momentum", 0.05), Training(10, 5, "squared_error", "float64"), PROBES, 8,
    ),
    "orthogonal gelu on a teacher": Run(
        Activation("gelu"), Init("orthogonal", gain=1.5), Task("teacher", examples=20, features=5),
        Model(3, 8), Optimizer("rmsprop", 0.01), SHORT, PROBES, 9,
    ),
    "tanh on its edge, scheduled": Run(
        Activation("tanh"), Init("critical", bias_variance=0.05), model=Model(6, 5),
        optimizer=Optimizer("adamw", 0.02, schedule="warmup", warmup_steps=3), training=SHORT,
        probes=PROBES, seed=10,
    ),
    "silu scaled by the data": Run(
        Activation("silu", beta=1.5), Init("lsuv"), Task("teacher"), Model(4, 10),
        Optimizer("lion", 0.003), SHORT, PROBES, 11,
    ),
}  # fmt: skip


def measured(run: Run) -> dict[str, list]:
    trace = train_runs(run)
    values = {"loss": trace.loss[:, 0]} | {n: v[:, :, 0] for n, v in trace.layers.items()}
    return {
        name: [
            [None if np.isnan(x) else float(f"{x:.7g}") for x in row] for row in np.atleast_2d(v)
        ]
        for name, v in values.items()
    }


def digits(value: float) -> float | None:
    return None if np.isnan(value) else float(f"{value:.7g}")


@pytest.mark.parametrize("name", RUNS)
def test_a_change_of_numbers_raises_numerics(name):
    golden = json.loads(GOLDEN.read_text())
    assert golden["numerics"] == NUMERICS, "write the golden values anew: see the head of this file"
    now = measured(RUNS[name])
    assert set(now) == set(golden[name])
    for key, values in golden[name].items():
        expected, found = np.array(values, float), np.array(now[key], float)
        np.testing.assert_allclose(
            found, expected, rtol=1e-4,
            err_msg=f"{key} changed: if that is wanted, raise config.NUMERICS",
        )  # fmt: skip


if __name__ == "__main__":
    golden = {"numerics": NUMERICS} | {name: measured(run) for name, run in RUNS.items()}
    GOLDEN.write_text(json.dumps(golden, indent=1) + "\n")
