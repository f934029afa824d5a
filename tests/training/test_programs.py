"""What a compiled program belongs to, and where it is kept."""

import functools

import jax.numpy as jnp
import numpy as np
import pytest

from fadeout import theory
from fadeout.config import Activation, Init, Model, Optimizer, Run, Task, Training
from fadeout.networks.activations import ACTIVATIONS
from fadeout.networks.initializers import INITIALIZERS
from fadeout.networks.optimizers import OPTIMIZERS
from fadeout.networks.probes import PROBES
from fadeout.networks.tasks import TASKS
from fadeout.registry import FadeoutError
from fadeout.training import programs
from fadeout.training.programs import batch_of, keep_compiled, machine, train

SHORT = Training(2, 1)


def final(run: Run) -> float:
    return float(train(run).loss[-1, 0])


def double(z):
    return 2 * z


def test_a_function_that_is_added_or_replaced_is_the_one_that_trains(monkeypatch):
    run = Run(Activation("mine"), training=SHORT, probes=())
    final(Run(training=SHORT, probes=()))  # a program of the table as it was
    monkeypatch.setitem(ACTIVATIONS, "mine", jnp.tanh)
    assert final(run) == pytest.approx(final(Run(training=SHORT, probes=())), rel=1e-6)
    monkeypatch.setitem(ACTIVATIONS, "mine", double)
    linear = Run(Activation("identity"), Init(gain=2.0), training=SHORT, probes=())
    assert final(run) != final(Run(training=SHORT, probes=()))
    assert train(run).loss[0, 0] != train(linear).loss[0, 0]  # the first layer is not scaled
    known = theory.moments("mine", 1.0).square
    assert known == pytest.approx(4.0), "theory knows of it as well"
    monkeypatch.setitem(ACTIVATIONS, "mine", jnp.sin)
    assert theory.moments("mine", 1.0).square == pytest.approx((1 - np.exp(-2)) / 2)


def test_a_name_that_is_gone_is_refused(monkeypatch):
    monkeypatch.setitem(ACTIVATIONS, "mine", double)
    batch_of(Run(Activation("mine")))
    monkeypatch.delitem(ACTIVATIONS, "mine")
    with pytest.raises(FadeoutError, match="unknown activation 'mine'"):
        batch_of(Run(Activation("mine")))


def half(key, shape, dtype):
    return jnp.full(shape, 0.5, dtype)


def other_task(key, levels):
    return np.zeros((3, 2)), np.ones(3)


def sevenths(layer):
    return jnp.asarray(1 / 7)


@pytest.mark.parametrize(
    ("table", "name", "entry", "run"),
    [
        (INITIALIZERS, "zeros", half, Run(init=Init("zeros"))),
        (TASKS, "or", other_task, Run(task=Task("or"))),
        (OPTIMIZERS, "sgd", OPTIMIZERS["adagrad"], Run(optimizer=Optimizer("sgd"))),
        (PROBES, "weight_norm", PROBES["weight_norm"]._replace(function=sevenths),
         Run(probes=("weight_norm",))),
        (ACTIVATIONS, "relu", double, Run(Activation("relu"), Init("lsuv"))),
    ],
    ids=["init", "task", "optimizer", "probe", "activation in an initialiser"],
)  # fmt: skip
def test_every_table_belongs_to_the_key(table, name, entry, run, monkeypatch):
    before = batch_of(run)
    monkeypatch.setitem(table, name, entry)
    assert batch_of(run) != before
    monkeypatch.undo()
    assert batch_of(run) == before


def test_programs_are_kept_apart_by_version_and_processor_and_follow_the_folder(tmp_path):
    before = programs.jax.config.jax_compilation_cache_dir
    compile_now = programs.compile_fit.__wrapped__
    program = batch_of(Run(model=Model(1, 3), training=Training(1, 1), probes=())).program
    device = programs.jax.local_devices()[0]
    try:
        for name in ("one", "two"):
            keep_compiled(str(tmp_path / name))
            compile_now(program, 16, device)
            assert any((tmp_path / name / machine()).iterdir()), "the second folder of a process"
    finally:
        keep_compiled(before and before.removesuffix(machine()))
    assert "jaxlib-" in machine()


def test_the_same_seed_is_the_same_network_in_either_precision():
    draw = functools.partial(Training, 0, 1)
    for init, task in (("he_normal", Task()), ("orthogonal", Task("teacher")),
                       ("uniform", Task("noisy_xor"))):  # fmt: skip
        single, double_ = (
            train(Run(init=Init(init, 1.3, 0.2), task=task, training=draw(dtype=dtype), probes=(),
                      seed=5))
            for dtype in ("float32", "float64")
        )  # fmt: skip
        for name in ("first", "hidden", "readout"):
            for part in ("kernel", "bias"):
                one, two = (
                    np.asarray(getattr(getattr(trace.model, name), part)[...])
                    for trace in (single, double_)
                )
                np.testing.assert_allclose(one, two, rtol=3e-7, atol=1e-9)
        np.testing.assert_allclose(single.loss, double_.loss, rtol=1e-5)
