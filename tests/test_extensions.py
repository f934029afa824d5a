"""What a user brings: functions from a file or a notebook, on the same footing as the package's."""

import functools
import json
import subprocess
import sys
import textwrap

import jax.numpy as jnp
import numpy as np
import pytest
from omegaconf import OmegaConf

import fadeout
from conftest import SMALL
from fadeout import extensions
from fadeout.config import Activation, Init, Model, Optimizer, Run, Task
from fadeout.networks.activations import get_activation
from fadeout.registry import TABLES, FadeoutError, parameters
from fadeout.sweeps import store
from fadeout.sweeps.reading import read_labels, result_files
from fadeout.sweeps.run_index import index_runs
from fadeout.sweeps.sweep import check_sweep, sweep, train_in_memory
from fadeout.training.compile_groups import compile_group
from fadeout.training.resolve import GROUPS, identity, resolve
from helpers import CONF, network, script

SHORT = {"model": Model(1, 4), "training": SMALL, "probes": ("delta_norm", "weight_norm")}


@pytest.fixture(autouse=True)
def no_files_yet(monkeypatch):
    monkeypatch.setattr(extensions, "LOADED", {})


def write(folder, text, name="my_lab.py"):
    path = folder / name
    path.write_text("import fadeout\nimport jax\nimport jax.numpy as jnp\n" + textwrap.dedent(text))
    return path


SAME = """
@fadeout.activation
def my_tanh(z):
    return jnp.tanh(z)

@fadeout.activation
def bent(z, *, slope: float = 0.01, power: int = 1):
    "One of two parameters."
    return jnp.where(z >= 0, z**power, slope * z)
"""


@pytest.mark.few
def test_the_same_activation_is_bit_identical_wherever_it_comes_from(tmp_path):
    extensions.load_extensions([str(write(tmp_path, SAME))])

    @fadeout.activation
    def here(z):
        return jnp.tanh(z)

    runs = [Run(Activation(name), **SHORT) for name in ("tanh", "my_tanh", "here", here)]
    runs += [Run(Activation(name, slope=0.2), **SHORT) for name in ("leaky_relu", "bent")]
    found = train_in_memory(runs)
    assert found.activation.values.tolist()[:4] == ["tanh", "my_tanh", "here", "here"]
    for name in ("loss", "delta_norm", "weight_norm"):
        values = found[name].values
        for one, other in ((0, 1), (0, 2), (0, 3), (4, 5)):
            np.testing.assert_array_equal(values[one], values[other], err_msg=name)
    assert not np.array_equal(found.loss[0], found.loss[4])
    static = Run(Activation("bent", power=3), **SHORT)
    assert compile_group(static).program != compile_group(runs[5]).program, (
        "an int decides a program"
    )
    assert compile_group(runs[5]).program == compile_group(runs[0]).program, "a float does not"
    z = jnp.array([-1.0, 2.0])
    assert get_activation("bent", power=3, slope=0.5)(z).tolist() == [-0.5, 8.0]


@pytest.mark.few
def test_an_arctan_is_an_arctan_in_every_lane():
    """XLA's is wrong in vectors of 512 bits (jaxlib 0.10.2)."""

    @fadeout.activation
    def arctan(z, *, stretch: float = 1.0):
        return jnp.arctan(stretch * z) / stretch

    many = [Run(Activation(arctan), **SHORT | {"probes": ("activation_std",)}, seed=seed)
            for seed in range(3)]  # fmt: skip
    found = train_in_memory(many)
    for row, run in enumerate(many):
        (x, _), weights = network(run)
        h = np.arctan(x @ weights[0][0] + weights[0][1])
        assert found.activation_std.values[row, 0, 0] == pytest.approx(h.std(), rel=1e-5)


HELPERS = """
import functools
SHARP = 1.5
BEND = 2.5
SAME = 1.5
def left(z): return jnp.tanh(SHARP * z)
def right(z): return BEND * jnp.minimum(z, 0)
def late(z):
    import their_helper
    return their_helper.bend(z)
part = functools.partial(jnp.multiply, SAME)
class Bent:
    by = 1.0
    def __call__(self, z): return self.by * z
bent = Bent()
@fadeout.activation
def two_part(z):
    return left(z) + right(z) + part(bent(late(z)))
"""


@pytest.mark.few("tanh")
@pytest.mark.parametrize(
    "change",
    ["BEND = 2.5/BEND = 0.1", "SAME = 1.5/SAME = 1.6", "by = 1.0/by = 2.0", "tanh/sin",
     "self.by * z/self.by + z", "their_helper: 1/2"],
)  # fmt: skip
def test_a_changed_source_never_meets_its_old_results(tmp_path, monkeypatch, change):
    (tmp_path / "their_helper.py").write_text("def bend(z):\n    return 1 * z\n")
    monkeypatch.syspath_prepend(tmp_path)
    path = write(tmp_path, HELPERS)
    extensions.load_extensions([str(path)])
    run = Run(Activation("two_part"), **SHORT)
    before, kept, loss = identity(run), resolve(run), train_in_memory([run]).loss.values
    if change.startswith("their_helper"):
        (tmp_path / "their_helper.py").write_text("def bend(z):\n    return 2 * z\n")
        del sys.modules["their_helper"]
        path.write_text(path.read_text() + "\n")
    else:
        path.write_text(path.read_text().replace(*change.split("/")))
    extensions.load_extensions([str(path)])
    assert identity(run) != before
    with pytest.raises(FadeoutError, match="activation two_part is not what it was"):
        resolve(kept)
    assert not np.array_equal(train_in_memory([run]).loss.values, loss)
    sys.modules.pop("their_helper", None)


@pytest.mark.few
def test_the_same_file_in_another_folder_is_the_same(tmp_path):
    found = []
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        extensions.load_extensions([str(write(tmp_path / name, SAME))])
        found.append(identity(Run(Activation("my_tanh"), **SHORT)))
        for table in ("my_tanh", "bent"):
            del TABLES["activation"][table]
    assert found[0] == found[1]


K = 1.0


@pytest.mark.few("tanh")
def test_a_constant_that_changes_in_a_notebook_is_another_run(monkeypatch):
    @fadeout.activation
    def scaled(z):
        return jnp.tanh(K * z)

    run = Run(Activation(scaled), **SHORT)
    before, loss = identity(run), train_in_memory([run]).loss.values
    monkeypatch.setitem(globals(), "K", 3.0)
    assert identity(run) != before
    assert not np.array_equal(train_in_memory([run]).loss.values, loss), "nor its compiled program"


@pytest.mark.few
def test_typed_functions_are_told_apart(tmp_path):
    """What was typed at a prompt has no source; only the names differ."""
    code = (
        "import fadeout, jax.numpy as jnp\nfrom fadeout import Activation, Model, Run, Training\n"
        "@fadeout.activation\ndef mine(z): return jnp.{}(z)\n"
        "run = Run(Activation(mine), model=Model(1, 4), training=Training(4, 2), probes=())\n"
        "print(fadeout.identity(run), fadeout.train(run, quiet=True).loss.values.tolist())"
    )
    said = [
        subprocess.run([sys.executable, "-"], input=code.format(name), cwd=tmp_path, text=True,
                       capture_output=True, timeout=120, check=True).stdout.split(" ", 1)
        for name in ("sin", "cos", "sin")
    ]  # fmt: skip
    assert said[0] == said[2]
    assert said[0][0] != said[1][0]
    assert said[0][1] != said[1][1]


class Scale:
    by = 2.0

    @functools.cached_property
    def inverse(self):
        return 1 / self.by


SCALE, MODEL = Scale(), Model(depth=3)


def test_what_an_object_remembers_of_itself_is_no_change_of_it():
    @fadeout.activation
    def remembering(z):
        return jnp.tanh(SCALE.by * z / MODEL.width)

    run = Run(Activation(remembering), model=MODEL)
    before = identity(run)
    assert SCALE.inverse == 0.5
    assert identity(run) == before


@pytest.mark.few("tanh")
def test_classes_follow_from_a_tasks_options():
    @fadeout.task
    def arms_(key, *, arms: int = 2, examples: int = 12):
        return jnp.ones((examples, 2)), jnp.arange(examples) % arms

    run = Run(task=Task(arms_, arms=3), model=Model(1, 4), training=SMALL, probes=())
    (_, _), weights = network(run)
    assert weights[-1][0].shape == (4, 3)
    assert train_in_memory([run]).loss.values[0, 0] > 0
    assert network(Run(task=Task(arms_), model=Model(1, 4)))[1][-1][0].shape == (4, 1)


@pytest.mark.few("tanh")
def test_parameters_may_have_the_names_of_other_things():
    @fadeout.initializer
    def scaled_down(key, shape, dtype, *, depth: float = 4.0, outputs: int = 1):
        return jnp.ones(shape, dtype) / depth

    @fadeout.optimizer
    def slower(learning_rate, *, steps: float = 2.0):
        import optax

        return optax.sgd(learning_rate / steps)

    run = Run(init=Init(scaled_down, depth=8.0), optimizer=Optimizer(slower), **SHORT)
    assert network(run)[1][0][0].tolist() == [[1 / 8] * 4] * 2
    same = Run(init=Init("constant", value=1 / 8), optimizer=Optimizer("sgd", 0.005), **SHORT)
    found = train_in_memory([run, same])
    np.testing.assert_array_equal(found.loss[0], found.loss[1])


def test_from_the_command_line_to_results_and_back(tmp_path):
    path = write(
        tmp_path,
        SAME
        + """
@fadeout.probe("share of weights near 0")
def near_zero(layer, *, below: float = 0.01):
    return jnp.mean(jnp.abs(layer.kernel) < below)

@fadeout.task
def rings(key, *, examples: int = 8, noise: float = 0.1, gain: float = 1.0):
    radius = 1.0 + jnp.arange(examples) % 2
    return gain * radius[:, None] * jnp.ones((examples, 2)), jnp.arange(examples) % 2

@fadeout.initializer
def halves(key, shape, dtype, *, value: float = 0.5):
    return jnp.full(shape, value, dtype)

@fadeout.optimizer
def slow(learning_rate, *, factor: float = 0.1):
    import optax
    return optax.sgd(learning_rate * factor)
""",
    )
    words = ["-m", f"extensions=[{path.name}]", "activation=bent,my_tanh,tanh", "task=rings",
             "init=halves,glorot_normal", "optimizer=slow", "model.width=4", "model.depth=1",
             "training.steps=6", "training.record_every=3", "seed=0,1",
             "probes=[near_zero,saturation,dead_units,delta_norm]", "name=mine"]  # fmt: skip
    launched = [*words, "hydra.launcher.executor=processes", "hydra.launcher.jobs=2"]
    done = script("train", *launched, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "12 solved" in done.stdout or "12:" in done.stdout
    again = script("train", *words, cwd=tmp_path)
    assert "12 runs were stored already" in again.stdout

    found = fadeout.load(tmp_path / "outputs" / "mine")  # where none of it is known
    assert found.near_zero.dims == ("run", "step", "layer")
    assert set(found.activation.values) == {"bent", "my_tanh", "tanh"}
    assert {"slope", "power", "value", "factor", "examples", "noise", "task.gain", "gain"} <= set(
        found.coords
    )
    assert fadeout.verdicts(found).shape == (12,)
    fadeout.compare(found, quantity="near_zero")
    fadeout.to_frame(found)
    config = Run.from_dict(json.loads(str(found.config.values[0])))
    brought = (config.activation.name != "tanh") + (config.init.name == "halves")
    assert len(config.sources) == 3 + brought
    with pytest.raises(FadeoutError, match=r"unknown (activation|init|task|probe)"):
        resolve(config)

    path.write_text(path.read_text().replace("slope * z", "slope * z + 0"))
    refused = script("train", *words, cwd=tmp_path)
    assert refused.returncode == 1
    assert "what is activation bent" in refused.stderr
    assert "choose another name" in refused.stderr


def test_a_study_of_ones_own_brings_its_extensions(tmp_path):
    write(tmp_path, SAME)
    study = tmp_path / "conf" / "experiment" / "mine.yaml"
    study.parent.mkdir(parents=True)
    study.write_text(
        "# @package _global_\ndefaults:\n  - override /activation: my_tanh\n"
        "extensions: [my_lab.py]\ntraining: {steps: 6, record_every: 3}\n"
    )
    done = script(
        "train", "--config-dir", "conf", "+experiment=mine", "model.width=4", cwd=tmp_path
    )
    assert done.returncode == 0, done.stderr
    lacking = script("train", "activation=my_tanh", cwd=tmp_path)
    assert "unknown activation 'my_tanh'" in lacking.stderr


BAD = {
    "def f(z): return z - jnp.mean(z)": "f is not elementwise: reduce_sum lets",
    "def f(z): return jnp.cumsum(z, -1)": "f is not elementwise: cumsum lets",
    "def f(z): return jnp.sort(z)": "f is not elementwise: sort lets",
    "def f(z): return z[::-1]": "f is not elementwise: rev lets",
    "def f(z): return z / z.shape[-1]": "f is not elementwise: it depends on the shape",
    "def f(z): return jnp.where(z >= 0, z, jnp.sqrt(-z))": "its slope at z = 0 is nan, also for",
    "def f(z): return jax.pure_callback(jnp.sin, z, z)": "cannot be traced|calls back",
    "def f(z): return float(z[0, 0])": "f cannot be traced by JAX",
    "def f(z): return z[0]": "must give the shape and dtype",
    "def f(z): return z > 0": r"must give the shape and dtype|cannot be traced",
    "def f(z): return (z > 0).astype(int)": r"must give the shape and dtype|cannot be traced",
    "def f(z): return None": "cannot be traced",
    "def f(z):\n    jax.debug.print('{}', z)\n    return z": "has effects",
    "def f(z, *, a): return a * z": "a needs a default",
    "def f(z, *, a=None): return z": "a is of type NoneType, and a config has only float",
    "def f(z, *, a: float = 'b'): return z": "default of a, 'b', is no float",
    "def f(z, *, a: list = []): return z": "a is of type list",
    "def f(z, a=1): return a * z": r"must take \(z\) by position, and its parameters after a \*",
    "def f(): return 1": r"must take \(z\) by position",
    "def tanh(z): return z": "there is already an activation tanh",
    "def f(z, *, surrogate: float = 1.0): return z": "activation.surrogate is there already",
    "def f(z, *, name: str = 'a'): return z": "activation.name is there already",
    "def f(z, *, traced: float = 1.0): return z": "activation.traced is there already",
    "def f(z, *, a: 'Nowhere' = 1): return z": "the annotations of f cannot be read",
    "def f(z): return jnp.tahn(z)": "has no attribute 'tahn'",
    "def f(z): return jnp.sqrt(z)": "f is not finite everywhere between -2 and 2",
}


@pytest.mark.parametrize("text", BAD)
def test_what_is_no_activation_is_refused_with_the_users_own_line(tmp_path, text):
    path = write(tmp_path, f"@fadeout.activation\n{text}\n")
    with pytest.raises(FadeoutError, match=BAD[text]) as refused:
        extensions.load_extensions([str(path)])
    first, *rest = str(refused.value).splitlines()
    assert first.startswith(f"{path}, line ")
    assert rest, "the line itself"
    assert "f" not in TABLES["activation"]


OTHERS = {
    "@fadeout.task\ndef f(key): return jnp.ones(3), jnp.ones(3)": r"inputs \[example, feature\]",
    "@fadeout.task\ndef f(key): return jnp.ones((3, 2)), jnp.ones((3, 1))": r"targets \[example\]",
    "@fadeout.task\ndef f(key): return jnp.ones((3, 2)) / 0, jnp.ones(3)": "not finite",
    "@fadeout.initializer\ndef f(key, shape, dtype): return jnp.ones(3)": r"a kernel \[in, out\]",
    "@fadeout.initializer\ndef f(key, shape, dtype, *, gain=1.0): return 1": "init.gain is there",
    "@fadeout.optimizer\ndef f(learning_rate): return learning_rate": "cannot be traced",
    "@fadeout.probe\ndef f(layer): return 1": "needs its title",
    "@fadeout.probe('a')\ndef f(layer): return layer.kernel": "must give one number of a layer",
    "@fadeout.probe('a', readout=True)\ndef f(layer): return jnp.mean(layer.slope)": "the readout",
    "@fadeout.probe('a', whole=True)\ndef f(layers): return 1.0": r"\[layer\] of all",
    "@fadeout.probe('a')\ndef accuracy(layer): return 1.0": "results have a accuracy already",
    "@fadeout.probe('a')\ndef depth(layer): return 1.0": "results have a depth already",
    "def f(:": "line 4: SyntaxError",
    "import nowhere": "ModuleNotFoundError: No module named 'nowhere'",
    "1 / 0": "line 4: ZeroDivisionError",
}


@pytest.mark.parametrize("text", OTHERS)
def test_other_entries_and_files_are_refused_as_well(tmp_path, text):
    with pytest.raises(FadeoutError, match=OTHERS[text]):
        extensions.load_extensions([str(write(tmp_path, f"{text}\n"))])


def test_files_and_functions_that_are_not_there():
    with pytest.raises(FadeoutError, match=r"nowhere.py does not exist: looked for /"):
        extensions.load_extensions(["nowhere.py"])
    with pytest.raises(FadeoutError, match="No module named 'no_such_module'"):
        extensions.load_extensions(["no_such_module"])
    with pytest.raises(FadeoutError, match=r"put @fadeout.activation above"):
        Activation(lambda z: z)
    with pytest.raises(FadeoutError, match="sin is not known as activation"):
        Activation(np.sin)


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: Run(Activation("leaky_relu", slop=0.1)), "has no slop .did you mean slope"),
        (lambda: Run(Activation("relu", slope=0.1)), "relu has no slope: it takes no parameter"),
        (
            lambda: Run(Activation("leaky_relu", slope="a")),
            "slope must be a finite number, not 'a'",
        ),
        (lambda: Run(Activation("leaky_relu", slope=[1])), "must be a number, a word or true"),
        (lambda: Run(Activation("leaky_relu", slope=float("nan"))), "must be a finite number"),
        (lambda: Run(task=Task("parity", bits=2.5)), "task.bits must be a whole number, not 2.5"),
        (lambda: Run(task=Task("parity", bits=13)), "task.bits must be at most 12"),
        (lambda: Run(init=Init("normal", stddev=-1)), "init.stddev must be at least 0"),
        (lambda: Run.from_dict({"init": {"options": 3}}), "unknown key of init 'options'"),
    ],
)
def test_an_option_is_what_the_signature_says(make, words):
    with pytest.raises(FadeoutError, match=words):
        resolve(make())


def test_every_entry_of_the_package_is_what_a_users_must_be():
    for table in TABLES.values():
        for name, entry in table.items():
            function = getattr(entry, "function", entry)
            table.check_signature(function, name)
            solved_for, of_a_file = "critical", "table"
            if table.check is not None and name not in (solved_for, of_a_file):
                table.check(function)
            assert function.__doc__, f"{name} says in a line what it is"


@pytest.mark.parametrize("group", GROUPS)
def test_the_menu_says_what_the_signatures_say(group):
    for name, entry in TABLES[group].items():
        menu = OmegaConf.to_container(OmegaConf.load(CONF / group / f"{name}.yaml"))
        usual = {key: p.default for key, p in parameters(entry).items()}
        assert {key: menu.get(key, "lacks it") for key in usual} == usual, f"{group}/{name}.yaml"


def test_a_word_that_stands_for_two_things_is_said_in_full(tmp_path):
    extensions.load_extensions([str(write(tmp_path, """
@fadeout.activation
def loud(z, *, gain: float = 1.0, noise: float = 2.0, depth: int = 3):
    return gain * z
"""))])  # fmt: skip
    run = resolve(Run(Activation("loud"), task=Task("noisy_xor")))
    labels = run.labels()
    assert labels["gain"] == 1.0, "the initialiser's"
    assert labels["depth"] == 2
    assert (labels["activation.gain"], labels["activation.depth"]) == (1.0, 3)
    assert (labels["activation.noise"], labels["task.noise"]) == (2.0, 0.1)
    assert run.with_labels({"activation.gain": 5.0}).activation.gain == 5.0
    plain = Run(Activation("loud"), model=Model(1, 4), training=SMALL, probes=())
    found = train_in_memory(
        [plain, Run(task=Task("noisy_xor"), model=Model(1, 4), training=SMALL, probes=())]
    )
    assert found["activation.noise"].values.tolist() == [2.0, pytest.approx(np.nan, nan_ok=True)]
    assert found["task.noise"].values[1] == 0.1
    assert "noise" not in found.coords


def test_an_installed_package_may_bring_extensions(tmp_path):
    write(tmp_path, SAME, "their_lab.py")
    info = tmp_path / "their_lab-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: their_lab\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[fadeout.extensions]\nlab = their_lab\n")
    code = "import fadeout; print(fadeout.expand('activation=my_tanh')[0].activation.name)"
    done = subprocess.run(
        [sys.executable, "-c", code], env={"PYTHONPATH": str(tmp_path), "HOME": str(tmp_path)},
        capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    assert done.stdout.strip() == "my_tanh", done.stderr


@pytest.mark.few("tanh")
def test_another_jax_may_trace_another_program_and_says_so(tmp_path, monkeypatch):
    @fadeout.activation
    def curved(z):
        """Twice the tanh."""
        return 2 * jnp.tanh(z)

    run = Run(Activation(curved), **SHORT)
    sweep([run], tmp_path)
    (path,) = result_files(tmp_path)
    assert "return 2 * jnp.tanh(z)" in read_labels(path).about["source of activation curved"]

    @fadeout.activation
    def curved(z):
        return 3 * jnp.tanh(z)

    with pytest.raises(FadeoutError, match="what is activation curved"):
        sweep([run], tmp_path)
    monkeypatch.setattr(store, "version", lambda package: "99.0")
    (note,) = check_sweep(tmp_path, index_runs([run]))
    assert note.startswith("activation curved is another program for jax 99.0 than for ")
    assert sweep([run], tmp_path).outcomes.total() == 1
