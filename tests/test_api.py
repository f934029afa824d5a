"""What a notebook has of the command line: the same words, the same runs."""

import numpy as np
import pytest

import fadeout
from conftest import small_runs
from fadeout.registry import FadeoutError
from helpers import made


def test_a_notebook_asks_in_the_words_of_the_command_line():
    runs = fadeout.expand(
        "activation=step,tanh init=he_normal model.depth=1,5 model.width=4 training.steps=6 "
        "training.record_every=3 seed=range(0,2)"
    )
    assert [fadeout.identity(run) for run in runs] == [fadeout.identity(r) for r in small_runs()]
    assert [fadeout.identity(run) for run in fadeout.expand()] == [fadeout.identity(fadeout.Run())]
    assert len(fadeout.expand("+experiment=demo")) == 320
    grid = fadeout.expand("-m '+axes.gain=[0.5, 1]' seed=0,1 name=anything")
    assert [(run.init.gain, run.seed) for run in grid] == [(0.5, 0), (1.0, 0), (0.5, 1), (1.0, 1)]


@pytest.mark.parametrize(
    ("line", "words"),
    [("activation=rleu", "did you mean relu"), ("model.deph=2", "depth"), ("a=", "a"),
     ("model.depth=0", "at least 1"), ("+experiment=nothing", "nothing")],
)  # fmt: skip
def test_what_the_command_line_refuses_is_refused(line, words):
    with pytest.raises(FadeoutError, match=words):
        fadeout.expand(line)


def test_a_figure_and_a_frame_of_results(small_sweep):
    results = fadeout.load(small_sweep)
    figure = fadeout.compare(results, quantity="delta_norm", row="depth")
    assert len(figure.axes) == 2
    with pytest.raises(FadeoutError, match="unknown quantity"):
        fadeout.compare(results, quantity="delta_nrm")
    frame = fadeout.to_frame(results)
    assert list(frame.columns[:3]) == ["activation", "depth", "seed"]
    assert "width" not in frame
    found = frame.loc[fadeout.identity(small_runs()[-1])]
    assert (found.activation, found.depth, found.seed) == ("tanh", 5, 1)
    np.testing.assert_array_equal(frame.loss, results.loss.isel(step=-1))
    assert set(fadeout.verdicts(results)) <= {"healthy", "vanishing", "exploding", "dead"} | {
        "no_gradient", "saturated", "partly_dead"
    }  # fmt: skip


def test_the_best_configs_over_their_seeds():
    losses = {0.1: [0.3, 0.1, 0.2], 1.0: [0.5, 0.6, 0.7], 10.0: [np.nan] * 3}
    runs = made(
        {"learning_rate": list(losses)}, depth=1, steps=(0, 10), seeds=3,
        loss=lambda run: [1.0, losses[run["learning_rate"]][run["seed"]]],
        status=lambda run: "solved" if run["learning_rate"] < 1 else "diverged",
    )  # fmt: skip
    found = fadeout.best(runs, "loss")
    assert found.learning_rate.tolist() == [0.1, 1.0], "where nothing is finite nothing is ranked"
    np.testing.assert_allclose(found.loss, [0.2, 0.6])
    assert (found.low <= found.loss).all()
    assert (found.high >= found.loss).all()
    solved = fadeout.best(runs, most=1)
    assert solved.learning_rate.tolist() == [0.1]
    assert (solved.solved[0], solved.runs[0]) == (1.0, 3)
    with pytest.raises(FadeoutError, match="unknown quantity 'delta_norm'"):
        fadeout.best(runs, "delta_norm")
    with pytest.raises(FadeoutError, match="at least one row"):
        fadeout.best(runs, most=0)
