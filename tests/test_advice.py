"""What is advised before training: against closed forms, and against networks that are drawn."""

from dataclasses import replace

import numpy as np
import pytest

import fadeout
from fadeout.advice import advise_all, sweep_warning
from fadeout.config import Activation, Init, Model, Run, Task, Training
from fadeout.registry import FadeoutError
from helpers import script


def test_relus_choices_in_closed_form():
    found = fadeout.advise("relu", depth=31, width=4)
    he = found.loc["init=he_normal"]
    assert (he.chi, he.decades) == (pytest.approx(1), pytest.approx(0, abs=1e-9))
    glorot = found.iloc[0]
    assert glorot.decades == pytest.approx(30 * 0.5 * np.log10(0.5))
    assert (glorot.chi, glorot.word) == (pytest.approx(0.5), "vanishing")
    assert found.loc["init=critical", "weight_variance"] == pytest.approx(2)
    assert found.loc["init=lecun_normal init.gain=auto", "weight_variance"] == pytest.approx(2)
    assert found.loc["init=he_normal", "born_dead"] == pytest.approx(1 - (1 - 2.0**-4) ** 31)
    assert found.loc["init=he_normal", "word"] == "dead"
    assert found.loc["model.residual=1", "decades"] == pytest.approx(15 * np.log10(1.5))
    assert found.loc["model.residual=1", "word"] == "exploding"
    assert "no initialiser alone keeps it within a decade" in found.attrs["advice"]
    wide = fadeout.advise("relu", depth=31, width=64)
    assert wide.attrs["advice"].startswith("init=he_normal: the gradient keeps its size (+0.0")


def test_what_is_measured_is_beside_what_is_expected():
    found = fadeout.advise("tanh", depth=10, width=128, measure=True)
    assert (found["measured"] - found["decades"]).abs().max() < 0.25
    assert fadeout.advise("softplus").attrs["advice"].startswith("model.residual=1 model.residual_")
    parametric = fadeout.advise("leaky_relu", slope=1.0)
    assert parametric.iloc[0].decades == pytest.approx(0), "the identity"

    @fadeout.activation
    def of_my_own(z):
        return z

    assert fadeout.advise(of_my_own).iloc[0].decades == pytest.approx(0)


def test_the_table_of_all_has_a_word_for_each():
    found = advise_all(depth=20)
    assert {"sigmoid", "relu", "gelu", "softplus"} <= set(found.index)
    assert "step" not in found.index, "theory cannot judge it"
    assert found["advice"].str.len().min() > 0


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: fadeout.advise("rleu"), "did you mean relu"),
        (lambda: fadeout.advise("step"), "theory cannot judge step: .* E phi'.2 0"),
        (lambda: fadeout.advise("relu", depth=1), "advice needs a depth from 2 to 10,000, not 1"),
        (lambda: fadeout.advise("relu", bias_variance=-1), "of 0 or more, not -1"),
        (lambda: fadeout.advise("relu", bias_variance=float("nan")), "of 0 or more, not nan"),
        (lambda: fadeout.advise("relu", bias_variance="0.1"), "of 0 or more, not '0.1'"),
        (
            lambda: fadeout.advise("leaky_relu", slope="x"),
            "leaky_relu.slope must be a finite number",
        ),
        (lambda: fadeout.advise(3), "a name or a function, not 3"),
        (lambda: fadeout.advise("relu", slope=0.1), "relu has no slope"),
    ],
)
def test_what_cannot_be_advised_is_said(call, words):
    with pytest.raises(FadeoutError, match=words):
        call()


def test_a_long_sweep_that_cannot_train_is_warned_of():
    def runs(depth, count=100, steps=10):
        return [Run(Activation("sigmoid"), model=Model(depth, 4), training=Training(steps, 5),
                    seed=seed) for seed in range(count)]  # fmt: skip

    said = sweep_warning(runs(20))
    assert said.startswith("by theory few or none of these runs can train")
    assert "the gradient loses 12 decades or more" in said
    assert "init=critical" in said
    assert sweep_warning(runs(4)) is None
    assert sweep_warning([*runs(20), *runs(4)]) is None, "some can"
    assert sweep_warning(runs(20, count=99)) is None, "not worth a line"
    assert sweep_warning(runs(20, steps=0)) is None, "nothing is trained"
    unknown = [replace(run, init=Init("lsuv")) for run in runs(20)]
    assert sweep_warning(unknown) is None, "theory has no word"
    for init in (Init("normal"), Init("torch"), Init("glorot_normal", 0.0)):
        assert sweep_warning([replace(run, init=init) for run in runs(20)]), init
    assert "loses all" in sweep_warning([replace(run, init=Init("zeros")) for run in runs(20)])
    many = [*runs(20, count=150), *runs(4, count=1), *runs(20, count=150)]
    assert sweep_warning(many) is None, "one in 301 can"
    steps = [replace(run, activation=Activation("step")) for run in runs(20)]
    assert sweep_warning(steps) is None, "its readout may learn"
    cured = [replace(run, model=Model(20, 4, residual=1.0)) for run in runs(20)]
    assert sweep_warning(cured) is None


def test_zeros_that_are_normalised_are_warned_of():
    """(0, 0) without biases: the slope of the normalisation there is 316 a layer, and deep tanh
    networks diverge at step 0; relu's slope at 0 is 0."""

    def run(name="tanh", inputs="binary", bias=0.0):
        return Run(Activation(name), Init("glorot_normal", bias_variance=bias),
                   Task("xor", inputs=inputs), Model(20, 16, normalization="layer"),
                   training=Training(0, 1), probes=("delta_norm",))  # fmt: skip

    trained = replace(run(), training=Training(10, 10))
    assert "task.inputs=bipolar" in sweep_warning([trained])
    result = fadeout.train(run(), quiet=True).isel(run=0)
    assert not float(result.delta_norm.sel(step=0, layer=11)) < 1e20
    for other in (run("relu"), run(inputs="bipolar"), run(bias=0.1)):
        assert sweep_warning([replace(other, training=Training(10, 10))]) is None
        fine = fadeout.train(other, quiet=True).isel(run=0)
        assert float(fine.delta_norm.sel(step=0).max()) < 1e3


def test_what_was_measured_decides():
    """At width 8 theory for infinite width is wrong by ten decades, and the advice must not be."""
    found = fadeout.advise("sigmoid", 50, 8, measure=True)
    assert found.loc["init=critical"].decades > -1 > -5 > found.loc["init=critical"].measured
    assert found.loc["init=critical", "word"] == "vanishing"
    assert found.attrs["advice"].startswith("model.residual=1 model.residual_scale=sqrt_depth")
    assert "measured" in found.attrs["advice"]
    narrow = fadeout.advise("relu", 50, 8, measure=True)
    dead = narrow["measured"].isna()
    assert (narrow["word"][dead] == "dead").all()


def test_ten_lines_in_the_terminal(tmp_path):
    done = script("advise", "gelu", "--depth", "50", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert len(lines) <= 10
    assert "residual_scale=sqrt_depth: the gradient keeps its size" in lines[-1]
    assert script("advise", "gelu", "--depth", "x", cwd=tmp_path).returncode == 2
    wrong = script("advise", "elu", "--option", "alpha", cwd=tmp_path)
    assert "write it as slope=0.2" in wrong.stderr


def test_a_gradient_that_keeps_its_size_while_the_signal_does_not():
    """gelu with the gain that keeps chi near 1 at first: the variance of layer 50 is 4,100."""
    found = fadeout.advise("gelu", depth=50)
    row = found.loc["init=lecun_normal init.gain=auto"]
    assert abs(row["decades"]) < 2
    assert row["variance"] > 1e3
    assert row["word"] == "signal_grows"
    assert "sqrt_depth" in found.attrs["advice"], "which is not recommended"
