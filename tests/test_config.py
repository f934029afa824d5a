"""The schema: types, ranges, identity, and what is traced."""

import math

import numpy as np
import pytest

from fadeout.cli.config import Config
from fadeout.config import Activation, Init, Model, Optimizer, Run, Task, Training
from fadeout.networks import initializers, optimizers, probes, tasks  # noqa: F401
from fadeout.registry import SECTION_NAMES, TABLES, FadeoutError, parameters
from fadeout.schema import Choice, kinds, sections_of
from fadeout.training.resolve import identity, resolve


def test_a_run_survives_plain_data():
    run = Run(Activation("elu", alpha=2), optimizer=Optimizer(learning_rate=1), seed=3)
    assert Run.from_dict(run.as_dict()) == run
    assert run.activation.alpha == 2.0
    assert isinstance(run.optimizer.learning_rate, float)


def test_identity_follows_what_determines_the_numbers():
    run = Run()
    assert identity(run) == identity(Run(optimizer=Optimizer(learning_rate=0.01)))
    different = [
        Run(seed=1),
        Run(optimizer=Optimizer(learning_rate=0.02)),
        Run(training=Training(dtype="float64")),
        Run(init=Init(gain=1.1)),
    ]
    assert len({identity(r) for r in [run, *different]}) == 5
    assert identity(run) == identity(resolve(run)), "written out or not"
    swapped = Run(probes=("delta_norm", "gradient_norm"))
    assert identity(swapped) == identity(Run(probes=("gradient_norm", "delta_norm")))
    one = Config(name="a", seed=4).run()
    assert one == Config(name="b", outputs="elsewhere", seed=4).run() == Run(seed=4)


def test_every_label_is_one_unique_word():
    words = [key for s in sections_of(Run) for key in kinds(kinds(Run)[s][0]) if key != "name"]
    for kind, table in TABLES.items():
        if kind != "probe":
            words += {key for entry in table.values() for key in parameters(entry)}
    assert len(words) == len(set(words))
    assert not set(words) & {"loss", "accuracy", "status", "step", "layer", "run", "id", "config"}


def test_a_choice_may_be_given_by_its_name_alone():
    assert Run(activation="relu", task="and") == Run(Activation("relu"), task=Task("and"))
    with pytest.raises(FadeoutError, match="model must be Model, not 3"):
        Run(model=3)


def test_numbers_of_numpy_are_numbers():
    rate = Optimizer(learning_rate=np.float32(0.5))
    run = Run(model=Model(np.int64(3), np.int32(4)), optimizer=rate, seed=np.uint32(7))
    assert run == Run(model=Model(3, 4), optimizer=Optimizer(learning_rate=0.5), seed=7)
    assert type(run.model.depth) is int
    with pytest.raises(FadeoutError, match="a whole number, not True"):
        Model(np.bool_(True))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Model(depth=0), "model.depth must be at least 1, not 0"),
        (lambda: Model(depth=-3), "model.depth must be at least 1, not -3"),
        (lambda: Model(width=0), "model.width must be at least 1, not 0"),
        (lambda: Model(depth=2.5), "model.depth must be a whole number, not 2.5"),
        (lambda: Model(depth=True), "model.depth must be a whole number, not True"),
        (lambda: Optimizer(learning_rate=-0.1), "optimizer.learning_rate must be at least 0"),
        (lambda: Optimizer(learning_rate=math.nan), "must be a finite number, not nan"),
        (lambda: Optimizer(learning_rate="fast"), "must be a finite number, not 'fast'"),
        (lambda: Training(steps=10, record_every=3), "set training.steps=9, or"),
        (lambda: Training(dtype="float16"), "choose from: float32, float64"),
        (lambda: Run(seed=math.inf), "seed must be a whole number, not inf"),
        (lambda: Optimizer(learning_rate=10**400), "must be a finite number"),
        (lambda: Optimizer(learning_rate=1e39), "must be a finite number"),
        (lambda: Optimizer(warmup_steps=3), "needs optimizer.schedule=warmup"),
        (lambda: Run(probes=[["a"]]), "must be a list of words"),
        (lambda: Run(seed=-1), "seed must be at least 0"),
        (lambda: Run(lr=0.1), r"a run has no lr \(did you mean learning_rate\?\)"),
        (lambda: Run(slope=0.1), r"a run has no slope.*Activation\('leaky_relu', slope=0.1\)"),
        (lambda: Run("relu", depth=2.5), "model.depth must be a whole number, not 2.5"),
        (lambda: Run(seed=np.zeros((200, 50))), r"not an array of shape \(200, 50\)$"),
        (lambda: Run(probes=["x"] * 99 + [1]), r"not \['x', .{60,80}\.\.\.$"),
        (lambda: Run.from_dict({"sed": 1}), r"unknown key 'sed' \(did you mean seed\?\)"),
        (lambda: Run.from_dict({"model": {"dept": 1}}), r"key of model 'dept' .did you mean depth"),
        (lambda: Run.from_dict({"model": 3}), "model must be a group of keys, not 3"),
        (lambda: Run(probes="loss"), "probes must be a list, not 'loss'"),
    ],
)
def test_bad_values_are_refused_with_a_reason(make, message):
    with pytest.raises(FadeoutError, match=message):
        make()


def test_values_by_their_labels_are_those_of_the_sections():
    short = Run("relu", init="he_normal", depth=8, width=4, learning_rate=0.1, steps=20, seed=3)
    assert short == Run(
        Activation("relu"), Init("he_normal"), model=Model(depth=8, width=4),
        optimizer=Optimizer(learning_rate=0.1), training=Training(steps=20), seed=3,
    )  # fmt: skip
    assert Run(Activation("leaky_relu", slope=0.1), slope=0.3).activation.slope == 0.3


def test_no_parameter_may_be_called_as_what_a_section_has_itself():
    own = {name for name in dir(Choice("x")) if not name.startswith("__")}
    axes = {"step", "layer", "run", "activation"}
    assert own | axes | {"self", "defaults"} == SECTION_NAMES, "beside what Python and Hydra take"


def test_a_run_of_another_seed_is_as_one_that_was_checked():
    run = Run(Activation("leaky_relu", slope=0.2), probes=(), seed=3, keep=("weights",))
    other = run.replace_unchecked(seed=7)
    checked = Run(run.activation, probes=run.probes, seed=7, keep=run.keep)
    assert (other, hash(other), repr(other)) == (checked, hash(checked), repr(checked))
    assert (run.seed, other.digest()) == (3, Run.from_dict(other.as_dict()).digest())
