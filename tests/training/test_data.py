"""Data of one's own, classes, minibatches and what is held out: against NumPy and plain optax."""

import io
import os
import zipfile

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import fadeout
from fadeout import extensions
from fadeout.config import Activation, Init, Model, Optimizer, Run, Task, Training
from fadeout.networks.tables import read_table
from fadeout.networks.tasks import TASKS, arrays, classes_of, make_examples
from fadeout.registry import NAMES, FadeoutError
from fadeout.sweeps.sweep import sweep
from fadeout.training.initialization import holdout_order
from fadeout.training.programs import train_runs
from fadeout.training.resolve import identity, resolve
from helpers import network

pytestmark = pytest.mark.few("tanh", "relu", "leaky_relu", "identity", "step")

ROWS = "width,height,kind\n" + "".join(
    f"{i % 5},{(i * 7) % 11 / 10},{'abc'[i % 3]}\n" for i in range(30)
)
PROBES = ("gradient_norm", "delta_norm", "gradient_mean", "gradient_std")


@pytest.fixture
def table(tmp_path):
    path = tmp_path / "data.csv"
    path.write_text(ROWS)
    return Task("table", file=str(path))


def softmax(x):
    e = np.exp(x - x.max(1, keepdims=True))
    return e / e.sum(1, keepdims=True)


def by_hand(x, targets, weights, loss):
    """Loss, accuracy and the gradients of a network of tanh units, in NumPy."""
    h, below = x, []
    for kernel, bias in weights[:-1]:
        below.append(h)
        h = np.tanh(h @ kernel + bias)
    below.append(h)
    output = h @ weights[-1][0] + weights[-1][1]
    wanted = np.eye(output.shape[1])[targets.astype(int)]
    if loss == "cross_entropy":
        p = softmax(output)
        value, delta = -np.log(p[wanted == 1]).mean(), (p - wanted) / len(x)
    else:
        value = ((output - wanted) ** 2).sum(1).mean()
        delta = 2 * (output - wanted) / len(x)
    gradients = []
    for (kernel, _), h in zip(weights[::-1], below[::-1], strict=True):
        gradients.append((h.T @ delta, delta.sum(0), delta))
        delta = (delta @ kernel.T) * (1 - h**2)
    return value, (output.argmax(1) == targets).mean(), gradients[::-1]


@pytest.mark.parametrize("loss", ["cross_entropy", "squared_error"])
def test_three_classes_by_hand(table, loss):
    run = Run(task=table, model=Model(3, 5), optimizer=Optimizer("sgd", 0.1), probes=PROBES,
              training=Training(2, 1, loss, "float64"))  # fmt: skip
    (x, targets), weights = network(run)
    raw = np.array([line.split(",") for line in ROWS.splitlines()[1:]])
    numbers = raw[:, :2].astype(float)
    np.testing.assert_allclose(x, (numbers - numbers.mean(0)) / numbers.std(0))
    assert targets.tolist() == ["abc".index(word) for word in raw[:, 2]]
    trace = train_runs(run)
    for step in range(3):
        value, accuracy, gradients = by_hand(x, targets, weights, loss)
        assert trace.loss[step, 0] == pytest.approx(value, rel=1e-9)
        assert trace.accuracy[step, 0] == pytest.approx(accuracy)
        measured = {name: values[step, :, 0] for name, values in trace.layers.items()}
        wanted = {
            "gradient_norm": [np.linalg.norm(g) for g, _, _ in gradients],
            "delta_norm": [np.linalg.norm(d) for _, _, d in gradients],
            "gradient_mean": [g.mean() for g, _, _ in gradients],
            "gradient_std": [g.std() for g, _, _ in gradients],
        }
        for name, values in wanted.items():
            np.testing.assert_allclose(measured[name], values, 1e-8, 1e-15, err_msg=name)
        weights = [(k - 0.1 * g, b - 0.1 * d)
                   for (k, b), (g, d, _) in zip(weights, gradients, strict=True)]  # fmt: skip


def test_classes_are_solved_like_bits():
    run = Run(Activation("tanh"), task=Task("spirals", arms=3, noise=0.0, turns=0.3),
              model=Model(2, 16), training=Training(600, 20), probes=())  # fmt: skip
    found = fadeout.train(run, quiet=True)
    assert found.status.item() == "solved"
    assert found.accuracy.values[0, -1] == 1
    step = int(found.solved_step.item())
    assert (found.accuracy.values[0, found.step.values >= step] == 1).all()


def test_minibatches_against_plain_optax():
    size, steps = 4, 15
    task = Task("moons", examples=18)
    run = Run(task=task, model=Model(2, 5), optimizer=Optimizer("adam", 0.05), seed=4,
              probes=("delta_norm",),
              training=Training(steps, 5, dtype="float64", batch_size=size))  # fmt: skip
    (x, targets), weights = network(run)
    trace = train_runs(run)

    def loss(weights, x, targets):
        h = x
        for kernel, bias in weights[:-1]:
            h = jnp.tanh(h @ kernel + bias)
        z = (h @ weights[-1][0] + weights[-1][1])[:, 0]
        return jnp.mean(jax.nn.softplus(z) - targets * z)

    with jax.enable_x64(True):
        optimizer = optax.adam(0.05)
        weights = [tuple(map(jnp.asarray, pair)) for pair in weights]
        state, losses, seen = optimizer.init(weights), [], []
        for step in range(steps + 1):
            if step % 5 == 0:
                losses.append(float(loss(weights, x, targets)))
            epoch, batch = divmod(step, 18 // size)
            key = jax.random.fold_in(jax.random.fold_in(jax.random.key(4), 3), epoch)
            order = jax.random.permutation(key, 18)
            rows = order[batch * size : (batch + 1) * size]
            seen.append((epoch, rows.tolist()))
            gradients = jax.grad(loss)(weights, x[rows], targets[rows])
            updates, state = optimizer.update(gradients, state, weights)
            weights = optax.apply_updates(weights, updates)
    np.testing.assert_allclose(trace.loss[:, 0], losses, 1e-9)
    first = [row for epoch, rows in seen for row in rows if epoch == 0]
    assert len(set(first)) == len(first) == 16, "without replacement"


def test_a_run_in_minibatches_does_not_know_its_neighbours():
    shared = {"model": Model(2, 4), "training": Training(20, 10, batch_size=8)}
    shared |= {"task": Task("circles", examples=16), "probes": ("delta_norm",)}
    runs = [Run(**shared, seed=seed) for seed in range(5)]
    together = fadeout.train(runs, quiet=True)
    alone = fadeout.train(runs[3], quiet=True)
    np.testing.assert_array_equal(together.loss[3], alone.loss[0])
    np.testing.assert_array_equal(together.delta_norm[3], alone.delta_norm[0])
    assert not np.array_equal(together.loss[3], together.loss[2])


def test_what_is_held_out_is_never_trained_on():
    task = Task("moons", examples=20, noise=0.2)
    run = Run(task=task, model=Model(1, 4), optimizer=Optimizer("sgd", 0.0), probes=(),
              training=Training(4, 2, held_out=6), seed=1)  # fmt: skip
    found = fadeout.train(run, quiet=True)
    whole = fadeout.train(Run(task=task, model=Model(1, 4), optimizer=Optimizer("sgd", 0.0),
                              probes=(), training=Training(4, 2), seed=1), quiet=True)  # fmt: skip
    total = 14 * found.loss + 6 * found.validation_loss
    np.testing.assert_allclose(total / 20, whole.loss, 1e-6)
    right = 14 * found.accuracy + 6 * found.validation_accuracy
    np.testing.assert_allclose(right / 20, whole.accuracy, 1e-6)
    other = fadeout.train(Run(task=task, model=Model(1, 4), probes=(), seed=2,
                              training=Training(4, 2, held_out=6)), quiet=True)  # fmt: skip
    assert not np.array_equal(other.validation_loss, found.validation_loss)


def test_the_step_since_which_the_loss_is_low():
    run = Run(model=Model(1, 4), training=Training(200, 1, until_loss=0.5), probes=())
    found = fadeout.train(run, quiet=True)
    below = found.loss.values[0] < 0.5
    last_above = np.flatnonzero(~below).max()
    assert found.reached_step.item() == last_above + 1
    assert "reached_step" not in fadeout.train(Run(model=Model(1, 4), probes=()), quiet=True)


def test_squashed_outputs_and_bipolar_targets_by_hand():
    training = Training(1, 1, "squared_error", "float64")
    task = Task("xor", inputs="bipolar", targets="bipolar")
    run = Run(
        task=task, model=Model(1, 4, output="tanh"), training=training, probes=("delta_norm",)
    )
    (x, targets), weights = network(run)
    assert targets.tolist() == [-1, 1, 1, -1]
    trace = train_runs(run)
    z = np.tanh(x @ weights[0][0] + weights[0][1]) @ weights[1][0] + weights[1][1]
    y = np.tanh(z[:, 0])
    assert trace.loss[0, 0] == pytest.approx(((y - targets) ** 2).mean(), rel=1e-9)
    assert trace.accuracy[0, 0] == ((y > 0) == (targets > 0)).mean()
    delta = 2 * (y - targets) * (1 - y**2) / 4
    assert trace.layers["delta_norm"][0, -1, 0] == pytest.approx(np.linalg.norm(delta), rel=1e-9)


def test_without_biases_none_ever_moves():
    run = Run(Activation("relu"), init=Init("torch"), model=Model(3, 4, bias=False),
              training=Training(10, 5), probes=("bias_gradient_norm", "gradient_norm"))  # fmt: skip
    trace = train_runs(run)
    for part in (trace.model.first, trace.model.hidden, trace.model.readout):
        assert not part.bias[...].any()
    assert not trace.layers["bias_gradient_norm"].any()
    assert (trace.layers["gradient_norm"] > 0).all()


def test_torchs_own_initialisation():
    weights = network(Run(init=Init("torch", gain=2.0), model=Model(2, 64)))[1]
    for (kernel, bias), fan_in in zip(weights[:2], (2, 64), strict=True):
        bound = 1 / np.sqrt(fan_in)
        assert bound * 0.9 < np.abs(kernel / 2).max() <= bound
        assert bound * 0.8 < np.abs(bias).max() <= bound, "a gain is of the kernel"
        assert np.std(bias) == pytest.approx(bound / np.sqrt(3), rel=0.2)


@pytest.mark.parametrize(
    ("activation", "gain"),
    [("relu", np.sqrt(2)), ("identity", 1.0), ("step", np.sqrt(2)), ("tanh", 1.5925374),
     ("leaky_relu", np.sqrt(2 / (1 + 1e-4)))],
)  # fmt: skip
def test_the_gain_of_an_activation(activation, gain):
    run = resolve(Run(Activation(activation), Init("lecun_normal", gain="auto")))
    assert run.init.gain == pytest.approx(gain, rel=1e-6)
    assert identity(run) == identity(
        Run(Activation(activation), Init("lecun_normal", run.init.gain))
    )


def test_arrays_of_a_notebook(table):
    before = dict(TASKS), dict(NAMES)
    try:
        (x, targets), _ = network(Run(task=table))
        one = Run(task=arrays(x, targets, "mine"), model=Model(1, 4), probes=(),
                  training=Training(4, 2))  # fmt: skip
        found = fadeout.train(one, quiet=True)
        same = Run(task=table, model=Model(1, 4), probes=(), training=Training(4, 2))
        other = fadeout.train(same, quiet=True)
        np.testing.assert_array_equal(found.loss, other.loss)
        assert arrays(x, targets, "mine") == one.task, "the same again"
        with pytest.raises(FadeoutError, match="already a task mine, of other data"):
            arrays(x + 1, targets, "mine")
        two = [Run(task=arrays(x + by, targets), model=Model(1, 4), probes=(),
                   training=Training(4, 2)) for by in (0, 1)]  # fmt: skip
        both = fadeout.train(two, quiet=True)
        np.testing.assert_array_equal(both.loss[0], found.loss[0])
        assert not np.array_equal(both.loss[1], found.loss[0])
        with pytest.raises(FadeoutError, match="already a task xor"):
            arrays(x, targets, "xor")
        with pytest.raises(FadeoutError, match=r"targets \[example\]"):
            arrays(x, targets[1:])
        with pytest.raises(FadeoutError, match="not finite"):
            arrays(x + np.inf, targets)
    finally:
        for table, entries in zip((TASKS, NAMES), before, strict=True):
            table.clear()
            table.update(entries)


def test_numbers_as_targets(tmp_path):
    path = tmp_path / "line.npz"
    x = np.linspace(-1, 1, 12)[:, None]
    np.savez(path, inputs=x, targets=0.5 * x[:, 0])
    run = Run(Activation("identity"), task=Task("table", file=str(path), standardize=False),
              training=Training(300, 300, "squared_error"), probes=())  # fmt: skip
    found = fadeout.train(run, quiet=True)
    assert found.status.item() == "trained"
    assert np.isnan(found.accuracy).all()
    assert found.loss[0, -1] < 1e-4
    whole = tmp_path / "whole.csv"
    whole.write_text("x,y\n1,1\n2,5\n3,3\n")
    assert resolve(Run(task=Task("table", file=str(whole)))).sources
    with pytest.raises(FadeoutError, match="no classes"):
        resolve(Run(task=Task("table", file=str(whole), regression=True)))


def test_words_are_classes_whatever_they_are(tmp_path):
    path = tmp_path / "words.csv"
    path.write_text("a,y\n1,NA\n2,None \n3,NA\n4, null\n")
    (_, targets), _ = network(Run(task=Task("table", file=str(path))))
    assert targets.tolist() == [0, 1, 0, 2]
    path.write_text("a,y\n1,10\n2,9\n3,10\n")
    (_, targets), _ = network(Run(task=Task("table", file=str(path))))
    assert targets.tolist() == [1, 0, 1]


def test_a_folder_holds_several_files_and_no_two_versions_of_one(tmp_path):
    files = [tmp_path / f"{name}.csv" for name in ("one", "two")]
    for path in files:
        path.write_text(ROWS)

    def runs(*names):
        return [Run(task=Task("table", file=str(n)), model=Model(1, 4), training=Training(2, 1),
                    probes=()) for n in names]  # fmt: skip

    sweep(runs(files[0]), tmp_path / "all")
    assert sweep(runs(files[1]), tmp_path / "all").outcomes.total() == 1, "it widens the study"
    files[1].write_text(ROWS.replace("4,", "5,"))
    with pytest.raises(FadeoutError, match=r"what is task table .*two.csv"):
        sweep(runs(*files), tmp_path / "all")


@pytest.mark.parametrize(
    ("name", "values", "words"),
    [
        ("y.1", "0110100101", "left out: y.1, which repeats y"),
        ("id", [100 + n for n in range(10)], "left out: id, another whole number in every row"),
        ("ID", [3, 1, 2, 9, 8, 7, 0, 4, 5, 6], "left out: ID, another whole number in every row"),
        ("idx", range(10), "left out: idx, which numbers the rows"),
        ("label", "1001011010", "label tells the target in every row: if it is no feature"),
    ],
)
def test_what_is_no_feature_is_left_out_or_told(name, values, words, tmp_path):
    path = tmp_path / "data.csv"
    rows = zip("3141592653", values, "0110100101", strict=True)
    path.write_text("\n".join([f"x,{name},y", *(",".join(map(str, row)) for row in rows)]))
    table = read_table(str(path))
    assert words in table.about
    assert table.inputs.shape[1] == (2 if "label" in words else 1)


def test_a_changed_table_is_another_run(tmp_path):
    path = tmp_path / "data.csv"
    path.write_text(ROWS)
    run = Run(task=Task("table", file=str(path)))
    before = identity(run)
    path.write_text(ROWS.replace("4,", "5,"))
    assert identity(run) != before
    assert "task table" in resolve(run).sources[0]


TABLES = {
    "a,b,y\n1,,0\n2,3,1\n": "data.csv, column b, row 1: a finite number is needed, not nothing",
    "a,b,y\n1,x,0\n2,y,1\n": r"column b, row 1: a finite number is needed, not 'x' \(2 such rows\)",
    "a,y\n1,0\n2,\n": "column y, row 2: the target is missing",
    "a,y\n1,1\n2,1\n": "all targets are of one class, 1$",
    "a,y\n"
    + "".join(f"1,w{i}\n" for i in range(101)): "101 different values, too many for classes",
    "y\n1\n2\n": "needs a row, and a column of features",
    "a,y\n": "needs a row",
    "": "is no CSV table",
    "a,y\n1,inf\n2,0.5\n": "finite",
    "a,y\n1,0.5\n2,1.25\n3,NA\n4,0.75\n": "column y, row 3: a finite number is needed, not 'NA'",
    "a,y\n1,0.5\n2,1.25\n3,?\n4,0.75\n": "column y, row 3: a finite number is needed, not '.'",
    'a,y\n1,"0,5"\n2,1.25\n3,0.75\n': "row 1: a finite number is needed, with a decimal",
    'a,y\n1,"1,200"\n2,"1,300"\n3,"2,100"\n': "row 1: a finite number is needed, with a decimal",
    "a,y\n1,cat\n2,dog\n3,NA\n": "row 3: the target is missing: 'NA' stands for no class",
    "a,y\n1,Yes\n2,yes\n3,no\n": "'Yes' and 'yes' differ in their case alone",
    "a,y\n1,é\n2,e\u0301\n3,no\n": "differ in their hidden or composed characters alone",
    "a,y\n1,a\n2,a\u200b\n3,no\n": "differ in their hidden or composed characters alone",
    "a,y\n1,0.5\n2,low\n3,0.7\n4,high\n": "row 2: 'low' stands among numbers that are not whole",
    "a,y\n"
    + "".join(f"1,{n} kg\n" for n in range(9)): "every row is a class of its own, as '0 kg'",
    "a,y\n1,007\n2,7\n3,8\n": "007 and 7 are one number and two words",
    "x,x ,y\n1,2,0\n3,4,1\n": "has two columns x: rename one",
    "y,x,y \n1,2,0\n3,4,1\n": "has two columns y: rename one",
    ",x,y\n5.5,2,0\n3.1,4,1\n": "column 1 has no name",
    "0,1,2,3\n1,2,3,4\n": "begins with numbers, as 0",
    "5.1,3.5,no\n4.9,3.0,yes\n": "begins with numbers, as 5.1: its first row must name",
    "a,b,y\n1,2,3,0\n4,5,6,1\n": "row 1 has 4 values and the header 3; it was read as separated by",
}


@pytest.mark.parametrize("text", TABLES)
def test_what_is_no_table_is_refused(tmp_path, text):
    path = tmp_path / "data.csv"
    path.write_text(text)
    with pytest.raises(FadeoutError, match=TABLES[text]):
        resolve(Run(task=Task("table", file=str(path))))


SAME_TABLE = {
    "semicolons and decimal commas": "a;b;y\n0,5;1;no\n1,5;2;yes\n2,5;3;no\n",
    "a named separator": "sep=;\na;b;y\n0,5;1;no\n1,5;2;yes\n2,5;3;no\n",
    "tabs": "a\tb\ty\n0.5\t1\tno\n1.5\t2\tyes\n2.5\t3\tno\n",
    "bars": "a|b|y\n0.5|1|no\n1.5|2|yes\n2.5|3|no\n",
    "blanks": "a   b  y\n0.5 1 no\n1.5 2   yes\n2.5 3 no\n",
    "an index of pandas": ",a,b,y\n0,0.5,1,no\n1,1.5,2,yes\n2,2.5,3,no\n",
    "an index of R": '"","a","b","y"\n"1",0.5,1,"no"\n"2",1.5,2,"yes"\n"3",2.5,3,"no"\n',
    "a named index": "id,a,b,y\n1,0.5,1,no\n2,1.5,2,yes\n3,2.5,3,no\n",
    "pandas without names": "0,1,y\n0.5,1,no\n1.5,2,yes\n2.5,3,no\n",
    "empty columns of a spreadsheet": "a,b,y,,\n0.5,1,no,,\n1.5,2,yes,,\n2.5,3,no,,\n,,,,\n",
}


@pytest.mark.parametrize("way", SAME_TABLE)
def test_a_table_is_read_as_people_have_it(tmp_path, way):
    path = tmp_path / "data.csv"
    path.write_text(SAME_TABLE[way])
    found = read_table(str(path))
    assert found.inputs.tolist() == [[0.5, 1], [1.5, 2], [2.5, 3]]
    assert (found.targets.tolist(), found.classes) == ([0, 1, 0], 2)
    assert found.about.startswith("data.csv: 3 examples; y: classes no (2), yes (1); 2 features: ")
    assert ("left out" in found.about) == ("index" in way)


def test_true_and_TRUE_are_one_class_and_columns_can_be_dropped(tmp_path):
    path = tmp_path / "data.csv"
    path.write_text("leak,a,y\n1,5,True\n0,6,FALSE\n1,7,TRUE\n")
    found = read_table(str(path), drop="leak")
    assert found.targets.tolist() == [1, 0, 1]
    assert found.inputs.tolist() == [[5], [6], [7]]
    assert "left out: leak (task.drop)" in found.about
    with pytest.raises(FadeoutError, match=r"task.drop=y is the column to learn"):
        read_table(str(path), drop="y")


@pytest.mark.parametrize("kind", ["csv", "npz", "arrays"])
@pytest.mark.parametrize(
    ("targets", "classes"),
    [(np.array([-1, 1, -1]), 2), (np.array(["no", "yes", "no"]), 2), (np.array([[0], [1], [0]]), 2),
     (np.array([3, 5, 9]), 3), (np.array([0.5, 1.0, 2.0]), 0), (np.array([True, False, True]), 2)],
)  # fmt: skip
def test_targets_mean_the_same_from_wherever_they_come(tmp_path, kind, targets, classes):
    x = np.array([[0.5, 1], [1.5, 2], [2.5, 3]])
    if kind == "arrays":
        made = arrays(x, targets, "same_targets")
        assert classes_of(made.name, {}) == classes
        return
    path = tmp_path / f"data.{kind}"
    if kind == "npz":
        np.savez(path, inputs=x, targets=targets)
    else:
        rows = [f"{a},{b},{t}" for (a, b), t in zip(x, targets.ravel(), strict=True)]
        path.write_text("\n".join(["a,b,y", *rows]))
    assert read_table(str(path)).classes == classes


def test_files_that_are_none_or_promise_too_much_are_refused_at_once(tmp_path):
    os.mkfifo(tmp_path / "pipe.csv")
    for name in (str(tmp_path / "pipe.csv"), "/dev/zero", str(tmp_path)):
        with pytest.raises(FadeoutError, match=r"cannot be read: it is (no regular file|a folder)"):
            read_table(name)
    path = tmp_path / "large.npz"
    header = io.BytesIO()
    np.lib.format.write_array_header_1_0(
        header, {"shape": (10**12, 4), "fortran_order": False, "descr": "<f8"}
    )
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("inputs.npy", header.getvalue())
        archive.writestr("targets.npy", header.getvalue())
    with pytest.raises(FadeoutError, match=r"is no npz file of numbers: .* its header says"):
        read_table(str(path))
    with pytest.raises(FadeoutError, match="cannot be read: it is no regular file"):
        extensions.load_extensions([make_pipe(tmp_path)])


def make_pipe(folder):
    os.mkfifo(folder / "lab.py")
    return str(folder / "lab.py")


def test_the_scale_of_inputs_is_that_of_what_is_trained_on(tmp_path):
    """Held-out rows far away: the training loss must not know of them."""
    rng = np.random.default_rng(0)
    x, far = rng.normal(5, 3, (20, 2)), rng.normal(900, 50, (20, 2))
    path = tmp_path / "data.csv"

    def write(values):
        rows = [f"{a},{b},{i % 2}" for i, (a, b) in enumerate(values)]
        path.write_text("\n".join(["a,b,y", *rows]))

    run = Run(task=Task("table", file=str(path)), model=Model(1, 4), probes=(), seed=3,
              training=Training(4, 2, held_out=6, dtype="float64"))  # fmt: skip
    write(x)
    (inputs, _), _ = network(run)
    np.testing.assert_allclose(inputs.mean(0), 0, atol=1e-12)
    np.testing.assert_allclose(inputs.std(0), 1, rtol=1e-12)
    loss = fadeout.train(run, quiet=True).loss.values
    order = np.asarray(holdout_order(np.array([3], np.uint32), 20))[:6, 0]
    changed = x.copy()
    changed[order] = far[order]
    write(changed)
    np.testing.assert_allclose(fadeout.train(run, quiet=True).loss.values, loss, rtol=1e-9)
    write(np.where(np.isin(np.arange(20), order)[:, None], x, far))
    assert not np.allclose(fadeout.train(run, quiet=True).loss.values, loss)


USERS_TASKS = {
    "targets of more classes": (
        "jnp.arange(4)",
        2,
        "gives the target 2, but its classes are 0 to 1",
    ),
    "one class": ("jnp.arange(4) % 2", 1, "classes must be 2 to 100, or 0"),
    "a negative number": ("jnp.arange(4) % 2", -3, "classes must be 2 to 100, or 0"),
    "a huge number": ("jnp.arange(4) % 2", 10**9, "classes must be 2 to 100, or 0"),
    "complex targets": ("1j * jnp.arange(4)", 0, "targets that are real numbers, not complex"),
    "negative targets": ("jnp.arange(4) - 1", 4, "gives the target -1"),
    "halves": ("jnp.arange(4) / 2", 2, "gives the target 0.5"),
}


@pytest.mark.parametrize("way", USERS_TASKS)
def test_a_task_of_ones_own_has_the_classes_that_it_says(way):
    targets, classes, words = USERS_TASKS[way]
    with pytest.raises(FadeoutError, match=words):

        @fadeout.task(classes=classes)
        def own(key):
            return jnp.ones((4, 2)), eval(targets)

    with pytest.raises(FadeoutError, match="inputs that are real numbers, not complex"):

        @fadeout.task
        def imaginary(key):
            return 1j * jnp.ones((4, 2)), jnp.arange(4) % 2


@pytest.mark.parametrize(
    ("run", "words"),
    [
        (Run(task=Task("table")), "needs its file: task.file=data.csv"),
        (Run(task=Task("table", file="/nowhere.csv")), "cannot be read: No such file"),
        (Run(training=Training(batch_size=5)), "batch_size=5 is more than the 4 examples"),
        (Run(training=Training(held_out=4)), "held_out=4 leaves none of the 4 examples"),
        (Run(model=Model(output="tanh")), "cross_entropy takes weighted sums"),
        (Run(task=Task("xor", targets="bipolar")), "cross_entropy takes targets 0 and 1"),
        (Run(task=Task("spirals", arms=3, targets="bipolar"),
             training=Training(loss_function="squared_error")), "there are not two classes"),
        (Run(task=Task("spirals", arms=3), probes=("ntk_largest",)), "of one output"),
        (Run(model=Model(bias=False), probes=("ntk_largest",)), "with biases"),
        (Run(model=Model(bias=False), init=Init(bias_variance=1)), "needs biases"),
        (Run(init=Init("torch", bias_variance=1)), "has biases of its own"),
        (Run(task=Task("spirals", arms=1)), "task.arms must be at least 2"),
    ],
)  # fmt: skip
def test_what_does_not_fit_together_is_refused(run, words):
    from fadeout.training.compile_groups import compile_group

    with pytest.raises(FadeoutError, match=words):
        compile_group(run)


@pytest.mark.parametrize("name", ["circles", "moons", "spirals"])
def test_clouds_are_where_one_draws_them(name):
    x, label = make_examples(jax.random.key(0), jnp.float32, name=name, noise=0.0, examples=40)[:2]
    x, label = np.asarray(x), np.asarray(label)
    assert np.bincount(label.astype(int)).tolist() == [20, 20]
    radius = np.linalg.norm(x, axis=1)
    if name == "circles":
        np.testing.assert_allclose(radius, np.where(label == 1, 0.5, 1), rtol=1e-6)
    elif name == "moons":
        centre = np.where(label[:, None] == 1, [1, 0.5], [0, 0])
        np.testing.assert_allclose(np.linalg.norm(x - centre, axis=1), 1, rtol=1e-6)
        assert (x[label == 0, 1] >= -1e-6).all()
        assert (x[label == 1, 1] <= 0.5 + 1e-6).all()
    else:
        np.testing.assert_allclose(x[label == 1], -x[label == 0], atol=1e-6)
        assert radius.max() == pytest.approx(1)


# --- weights that are given, and kept


def forward(x, weights, phi=np.tanh):
    """A network's outputs in NumPy."""
    count = len(weights) // 2
    for layer in range(1, count):
        x = phi(x @ weights[f"kernel_{layer}"] + weights[f"bias_{layer}"])
    return x @ weights[f"kernel_{count}"] + weights[f"bias_{count}"]


def kept(run):
    return fadeout.train(run, cache=None, quiet=True).isel(run=0)


def test_the_last_network_and_its_answers_are_kept(table):
    """The outputs of all examples as the task gives them, those that are held out among them; one
    more evaluation of the last weights by hand gives them."""
    run = Run(task=table, model=Model(3, 5), training=Training(20, 10, held_out=7, dtype="float64"),
              keep=("outputs", "weights"), probes=("weight_norm",), seed=3)  # fmt: skip
    result = kept(run)
    weights = fadeout.weights(result)
    x, targets = make_examples(None, jnp.float32, name="table", **dict(table.options))[:2]
    held = np.asarray(holdout_order(np.array([3], np.uint32), len(x)))[:7, 0]
    trained = np.delete(np.asarray(x), held, axis=0)
    scaled = (np.asarray(x) - trained.mean(0)) / trained.std(0)
    np.testing.assert_allclose(result.last_output, forward(scaled, weights), rtol=1e-4, atol=1e-5)
    np.testing.assert_array_equal(result.last_target, targets)
    norms = [np.linalg.norm(weights[f"kernel_{layer}"]) for layer in range(1, 5)]
    np.testing.assert_allclose(result.weight_norm.sel(step=20), norms, rtol=1e-12)
    assert result.validation_loss.dims == ("step",)


def test_what_is_kept_is_stored_and_joined(tmp_path):
    """Networks of two depths and widths in one folder, NaN where a layer lacks a unit."""
    runs = [Run(model=Model(depth, width, affine=True, normalization="layer"),
                training=Training(10, 10), probes=(), keep=("weights", "outputs"))
            for depth, width in ((1, 3), (2, 5))]  # fmt: skip
    sweep(runs, tmp_path)
    there, here = fadeout.load(tmp_path), fadeout.train(runs, cache=None, quiet=True)
    there = there.set_index(run="id").sel(run=here.id.values)
    for name in ("last_kernel", "last_bias", "last_gain", "last_shift", "last_output"):
        np.testing.assert_array_equal(there[name], here[name])
    small = there.isel(run=0)
    assert small.last_kernel.shape == (3, 5, 5)
    assert np.isfinite(small.last_kernel).sum() == 2 * 3 + 3
    assert small.last_gain.count() == 3
    with pytest.raises(FadeoutError, match=r"keep: .* -> "):
        sweep([Run(training=Training(10, 10), probes=())], tmp_path)


def test_given_weights_are_where_training_begins(tmp_path):
    """What one run ends with, the next begins with, to the last bit; twice `gain` is twice."""
    first = Run(model=Model(3, 5), training=Training(20, 10), keep=("weights", "outputs"))
    result = kept(first)
    path = tmp_path / "w.npz"
    np.savez(path, **fadeout.weights(result))
    again = Run(init=Init("given", npz=str(path)), model=Model(3, 5), training=Training(0, 1),
                keep=("weights", "outputs"))  # fmt: skip
    start = kept(again)
    for name in ("last_kernel", "last_bias", "last_output", "weight_norm"):
        ours = result[name].sel(step=20) if name == "weight_norm" else result[name]
        theirs = start[name].sel(step=0) if name == "weight_norm" else start[name]
        np.testing.assert_array_equal(ours, theirs)
    twice = Run(init=Init("given", 2.0, npz=str(path)), model=Model(3, 5),
                training=Training(0, 1), keep=("weights",))  # fmt: skip
    np.testing.assert_array_equal(kept(twice).last_kernel, 2 * result.last_kernel)
    np.testing.assert_array_equal(kept(twice).last_bias, result.last_bias)
    before = identity(again)
    np.savez(path, **{k: 2 * v for k, v in fadeout.weights(result).items()})
    assert identity(again) != before


def test_weights_that_are_not_all_of_a_network_are_refused():
    rezero = Run(model=Model(3, 5, residual=1.0, residual_scale="zero"), training=Training(2, 1),
                 keep=("weights",), probes=())  # fmt: skip
    with pytest.raises(FadeoutError, match="last_factor"):
        fadeout.weights(kept(rezero))
    lost = Run(optimizer=Optimizer("sgd", 1e20), keep=("weights",), probes=(),
               training=Training(5, 1, "squared_error"))  # fmt: skip
    with pytest.raises(FadeoutError, match="no finite weights: none at all, or it diverged"):
        fadeout.weights(kept(lost))
    mixed = fadeout.train([Run(probes=()), rezero], cache=None, quiet=True)
    with pytest.raises(FadeoutError, match="none at all"):
        fadeout.weights(mixed.isel(run=0))
    with pytest.raises(FadeoutError, match=r"results\.isel"):
        fadeout.weights(mixed)


def test_given_weights_that_do_not_fit_are_refused(tmp_path):
    good = {"kernel_1": np.ones((2, 5)), "kernel_2": np.ones((5, 1))}
    run = Run(init=Init("given", npz=str(tmp_path / "w.npz")), model=Model(1, 5))
    refused = [
        (good | {"kernel_2": np.ones((4, 1))}, "kernel_2 is .4, 1., and of .* .5, 1."),
        (good | {"kernel_3": np.ones((5, 1))}, "has 2 hidden layers: set model.depth=2"),
        (good | {"other": np.ones(3)}, "not other"),
        (good | {"bias_1": np.ones(4)}, "bias_1 must be .out., as many as its kernel"),
        (good | {"bias_2": np.array([np.nan])}, "bias_2 must be of finite numbers"),
        ({"kernel_1": np.ones((2, 5))}, "of a hidden layer or more"),
        (good | {"kernel_1": np.full((2, 5), 1e300)}, "need training.dtype=float64"),
    ]
    for arrays_, words in refused:
        np.savez(tmp_path / "w.npz", **arrays_)
        with pytest.raises(FadeoutError, match=words):
            train_runs(run)
    with (tmp_path / "w.npz").open("wb") as file:
        np.save(file, np.ones(3))
    for of_one in (run, Run(task=Task("table", file=str(tmp_path / "w.npz")))):
        with pytest.raises(FadeoutError, match=r"w\.npz is no npz file"):
            train_runs(of_one)
    (tmp_path / "w.npz").write_text("no")
    with pytest.raises(FadeoutError, match=r"w\.npz is no npz file"):
        train_runs(run)
    with pytest.raises(FadeoutError, match=r"init\.npz=weights\.npz"):
        train_runs(Run(init=Init("given")))
    with pytest.raises(FadeoutError, match="has biases of its own"):
        train_runs(Run(init=Init("given", npz="w.npz", bias_variance=1.0)))
    with pytest.raises(FadeoutError, match="did you mean weights"):
        Run(keep=("weight",))


HARD_TABLES = {
    "price\tw\ty\n999\t2.5\tno\n1,234\t1.5\tyes\n12,500\t3.5\tyes\n": "column price, row 2",
    "preis;breite;y\n999;2,5;no\n1.234;1,5;yes\n12.500;3,5;yes\n": "column breite, row 1",
    "a;b;y\n999;1;x\n1,234;2;z\n2,500;3;x\n": "column a, row 2",
    'a,b,y\n1,2,A\n2,3,B\n3,4,"A\n4,5,B\n5,6,A\n': "a quote is not closed",
    "0,1,yes\n1,1,no\n0,0,no\n1,0,yes\n": "begins with numbers, as 0",
    "prix total\ty\n1 234\toui\n2 500\tnon\n3 100\tnon\n": "column prix total, row 1",
    "a,y\n1,A\n2,B\n3,#VALUE!\n": "row 3: the target is missing",
    "a,y\n1,A\n2,NA\n3,A\n": "row 2: the target is missing",
    "a,y\n1,15%\n2,30%\n3,10%\n": "row 1: a finite number is needed, not '15%'",
    "a,y\n1,$5\n2,$6\n": "row 1: a finite number is needed",
    "a,y\n1,True\n2,0\n3,False\n": "mixes numbers with true and false",
    "a;b;y\n1,5;1;x\nNA;3;z\n2,5;3;z\n": "column a, row 2: a finite number is needed, not 'NA'",
}


@pytest.mark.parametrize("text", HARD_TABLES)
def test_what_may_be_read_in_two_ways_is_refused(tmp_path, text):
    path = tmp_path / "data.csv"
    path.write_text(text)
    with pytest.raises(FadeoutError, match=HARD_TABLES[text]):
        read_table(str(path))


def test_files_that_are_no_text_are_called_so(tmp_path):
    path = tmp_path / "data.csv"
    path.write_bytes(b"PK\x03\x04 a workbook")
    with pytest.raises(FadeoutError, match="it is a workbook, an archive or another binary file"):
        read_table(str(path))
    path.write_bytes("a,y\n1,pèche\n2,pêche\n".encode("mac_roman"))
    with pytest.raises(FadeoutError, match="is not in UTF-8"):
        read_table(str(path))
    np.savez(tmp_path / "data.npz", inputs=np.eye(3), targets=[0, 1, 1])
    with pytest.raises(FadeoutError, match=r"task.target and task.drop are of a CSV"):
        read_table(str(tmp_path / "data.npz"), drop="a")


def test_large_whole_numbers_are_classes_of_their_own_and_counters_are_named(tmp_path):
    path = tmp_path / "data.csv"
    path.write_text("a,y\n5,12345678901234567\n6,12345678901234568\n")
    assert read_table(str(path)).classes == 2
    path.write_text("patient,a,y\n" + "".join(f"{i},{i * i},{i % 2}\n" for i in range(9)))
    found = read_table(str(path))
    assert found.inputs.shape == (9, 2)
    assert found.about.endswith("patient numbers the rows: if it is no feature, task.drop=patient")


def test_a_feature_that_is_constant_among_the_trained_rows_is_not_blown_up(tmp_path):
    """A rare category: rounding would make a deviation of 1e-8 of it."""
    rng = np.random.default_rng(1)
    path = tmp_path / "data.csv"
    rows = [f"{a},{int(i == 7)},0.1,{i % 2}" for i, a in enumerate(rng.normal(size=100))]
    path.write_text("\n".join(["a,rare,same,y", *rows]))
    shared = {"task": Task("table", file=str(path)), "model": Model(1, 4), "probes": ()}
    shared |= {"training": Training(4, 2, held_out=25)}
    runs = [Run(Activation("relu"), **shared, seed=seed) for seed in range(16)]
    held = [
        7 in np.asarray(holdout_order(np.array([s], np.uint32), 100))[:25, 0] for s in range(16)
    ]
    assert any(held)
    assert fadeout.train(runs, cache=None, quiet=True).validation_loss.values.max() < 50
    assert not read_table(str(path)).inputs[:, 2].std() > 1e-15
