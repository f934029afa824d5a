"""What trained networks answer, against what training keeps and against NumPy."""

import numpy as np
import pytest

import fadeout
from fadeout.config import Model, Optimizer, Run, Task, Training
from fadeout.registry import FadeoutError
from fadeout.training.resolve import resolve
from fadeout.training.snapshots import train_with_snapshots
from helpers import layers

RUNS = [
    Run(
        activation, task=Task("circles"), model=Model(depth, 8, **model), seed=seed,
        optimizer=Optimizer("adam", 0.01), training=Training(30, 10, batch_size=batch),
        keep=("weights", "outputs"),
    )
    for seed in (0, 1)
    for activation, depth, model, batch in (
        ("tanh", 1, {}, None),
        ("relu", 3, {"residual": 1.0, "residual_scale": "zero"}, None),
        ("2xtanh-relu", 3, {"normalization": "layer", "affine": True}, 16),
        ("gelu", 3, {"normalization": "rms", "residual": 0.5}, None),
    )
]  # fmt: skip


@pytest.fixture(scope="module")
def trained():
    return fadeout.train(RUNS, quiet=True)


def test_answers_are_those_that_training_keeps(trained):
    for seed in (0, 1):
        own = trained.isel(run=(trained["seed"] == seed).values)
        data = fadeout.examples(next(run for run in RUNS if run.seed == seed))
        np.testing.assert_array_equal(data.targets, own["last_target"][0])
        found = fadeout.predict(own, data.inputs)
        assert found.dims == ("run", "example")
        np.testing.assert_allclose(found, own["last_output"][:, :, 0], rtol=1e-4, atol=1e-5)
        assert found["activation"].values.tolist() == [
            run.activation.name for run in RUNS if run.seed == seed
        ]


def test_answers_by_hand(trained):
    kept = {name: a.astype(float) for name, a in fadeout.weights(trained.isel(run=0)).items()}
    points = np.random.default_rng(0).normal(size=(5, 2))
    h = np.tanh(points @ kept["kernel_1"] + kept["bias_1"])
    expected = (h @ kept["kernel_2"] + kept["bias_2"])[:, 0]
    np.testing.assert_allclose(fadeout.predict(trained, points)[0], expected, rtol=1e-4, atol=1e-5)


def test_a_surface_is_the_answer_at_its_points(trained):
    own = trained.isel(run=[1])
    found = fadeout.surface(own, points=7)
    assert found.dims == ("run", "y", "x")
    for x, y in ((0, 0), (6, 2)):
        point = [[float(found.x[x]), float(found.y[y])]]
        answer = float(fadeout.predict(own, point)[0, 0])
        assert float(found[0, y, x]) == pytest.approx(answer, rel=1e-4)
    inputs = fadeout.examples(RUNS[0]).inputs
    assert found.x[0] < inputs[:, 0].min()
    assert found.x[-1] > inputs[:, 0].max()
    np.testing.assert_allclose(np.diff(found.x), np.diff(found.y), rtol=1e-6)
    near = fadeout.surface(own, points=3, reach=0.1)
    assert float(near.x[-1] - near.x[0]) == pytest.approx(0.2)


def test_more_than_two_classes_have_an_output_each():
    run = Run(task=Task("spirals", options={"arms": 3}), keep=["weights", "outputs"],
              training=Training(5, 5))  # fmt: skip
    found = fadeout.train(run, quiet=True)
    answers = fadeout.predict(found, fadeout.examples(run).inputs)
    assert answers.dims == ("run", "example", "output")
    np.testing.assert_allclose(answers, found["last_output"], rtol=1e-4, atol=1e-5)
    assert fadeout.surface(found, points=4).shape == (1, 4, 4, 3)


def test_what_has_diverged_has_no_answer():
    runs = [
        Run(task=Task("xor"), optimizer=Optimizer("sgd", rate), keep=["weights"], activation="relu",
            training=Training(30, 30, "squared_error"))
        for rate in (0.01, 1e20)
    ]  # fmt: skip
    found = fadeout.predict(fadeout.train(runs, quiet=True), [[0, 1]])
    assert np.isfinite(found[0]).all()
    assert np.isnan(found[1]).all()


def test_a_table_is_as_training_standardises_it(tmp_path):
    """By what is not held out."""
    rng = np.random.default_rng(0)
    rows = np.column_stack([rng.normal(3, 2, (12, 2)), np.arange(12) % 2])
    np.savetxt(tmp_path / "data.csv", rows, delimiter=",", header="a,b,answer", comments="")
    options = {"file": str(tmp_path / "data.csv"), "target": "answer"}
    run = Run(task=Task("table", options=options), training=Training(20, 20, held_out=4),
              keep=["weights", "outputs"])  # fmt: skip
    found = fadeout.train(run, quiet=True)
    data = fadeout.examples(run)
    np.testing.assert_array_equal(data.targets, found["last_target"][0])
    answers = fadeout.predict(found, data.inputs)
    np.testing.assert_allclose(answers, found["last_output"][:, :, 0], rtol=1e-4, atol=1e-5)


def test_a_network_that_is_not_whole_has_no_answer(trained):
    own = trained.isel(run=[1])
    kernels = np.array(own["last_kernel"].values)
    kernels[0, 1, :, 3] = np.nan
    broken = own.assign(last_kernel=(own["last_kernel"].dims, kernels))
    assert np.isnan(fadeout.predict(broken, [[0.0, 1.0]])).all()


def test_a_surface_is_around_the_examples_of_all_tasks():
    runs = [Run(task=task, keep=["weights"], training=Training(2, 2))
            for task in (Task("xor"), Task("xor", inputs="bipolar"))]  # fmt: skip
    found = fadeout.surface(fadeout.train(runs, quiet=True), points=np.int64(3))
    assert found.x.values.tolist() == [-1.25, 0.0, 1.25]


def test_the_data_of_a_task():
    held = Run(task=Task("moons"), training=Training(5, 5, held_out=16), seed=3)
    np.testing.assert_array_equal(
        fadeout.examples(held).inputs, fadeout.examples(Task("moons"), seed=3).inputs
    )
    assert fadeout.examples(Task("parity", options={"bits": 3})).inputs.shape == (8, 3)


@pytest.mark.parametrize(
    ("optimizer", "batch"), [(Optimizer("adam", 0.02), None), (Optimizer("sgd", 0.5), 2)]
)
def test_snapshots_are_the_networks_of_shorter_trainings(optimizer, batch):
    """At a constant rate, a training of 7 steps is the beginning of one of 20."""
    run = Run(optimizer=optimizer, training=Training(20, 20, batch_size=batch), keep=("weights",))
    found = train_with_snapshots(run, [0, 7, 20])
    for steps, network in zip((0, 7, 20), found, strict=True):
        training = Training(steps, max(steps, 1), batch_size=batch)
        short = Run(optimizer=optimizer, training=training, keep=("weights",))
        own = fadeout.weights(fadeout.train(short, quiet=True).isel(run=0))
        for number, (kernel, bias) in enumerate(layers(network), 1):
            np.testing.assert_allclose(kernel, own[f"kernel_{number}"], rtol=1e-5, atol=1e-6)
            np.testing.assert_allclose(bias, own[f"bias_{number}"], rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
    ("call", "told"),
    [
        (lambda r: fadeout.predict(r.drop_vars("last_kernel"), [[0, 1]]), r"keep=\[weights\]"),
        (lambda r: fadeout.predict(r, [0, 1]), "inputs must be numbers"),
        (lambda r: fadeout.predict(r, [["a", "b"]]), "inputs must be numbers"),
        (lambda r: fadeout.predict(r, [[1, 2, 3]]), "have 3 features, and this network 2"),
        (lambda r: fadeout.predict(3, [[1, 2]]), "takes results"),
        (lambda r: fadeout.surface(r, points=1), "points must be from 2"),
        (lambda r: fadeout.surface(r, reach=-1.0), "reach must be above 0"),
        (lambda r: fadeout.surface(r, reach="a"), "reach must be above 0"),
        (lambda r: fadeout.examples("xor"), "of a Run or a Task"),
        (lambda r: train_with_snapshots(Run(), [5, 3]), "rising steps"),
        (lambda r: train_with_snapshots(Run(), [0, 10**6]), "rising steps"),
        (lambda r: train_with_snapshots(Run(), []), "rising steps"),
    ],
)
def test_what_cannot_be_answered(trained, call, told):
    with pytest.raises(FadeoutError, match=told):
        call(trained)


def test_a_surface_needs_two_features():
    run = Run(task=Task("parity"), keep=["weights"], training=Training(2, 2))
    with pytest.raises(FadeoutError, match="this task has 4"):
        fadeout.surface(fadeout.train(run, quiet=True))


def test_a_run_as_it_was_resolved(trained):
    from fadeout.analysis.answers import run_of

    assert run_of(trained.isel(run=2)) == resolve(RUNS[2])
