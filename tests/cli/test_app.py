"""The whole way, as a person walks it: Hydra, training, files, pictures, messages."""

import dataclasses
import hashlib
import os
from collections import Counter
from functools import partial

import jax
import numpy as np
import pytest
import xarray as xr
from hydra import compose, initialize_config_dir
from hydra.types import RunMode

import fadeout
from fadeout import plots
from fadeout.cli import compose as composing
from fadeout.cli import console
from fadeout.networks.activations import ACTIVATIONS
from fadeout.networks.initializers import INITIALIZERS
from fadeout.networks.optimizers import OPTIMIZERS
from fadeout.networks.tasks import TASKS
from fadeout.plots import figures
from fadeout.registry import FadeoutError
from fadeout.training.compile_groups import compile_group
from fadeout.training.fit import fit
from fadeout.training.programs import fit_arguments
from fadeout.training.resolve import resolve
from helpers import CONF, script

# --- the menu


def options(group):
    return sorted(path.stem for path in (CONF / group).glob("*.yaml"))


@pytest.mark.parametrize(
    ("group", "table"),
    [
        ("activation", ACTIVATIONS),
        ("init", INITIALIZERS),
        ("task", TASKS),
        ("optimizer", OPTIMIZERS),
    ],
)
def test_the_menu_and_the_table_are_in_step(group, table):
    assert options(group) == sorted(table)


def choices():
    return [
        f"{g}={name}" for g in ("activation", "init", "task", "optimizer") for name in options(g)
    ]


STUDIES = sorted(
    str(path.relative_to(CONF / "experiment").with_suffix(""))
    for path in (CONF / "experiment").rglob("*.yaml")
)


@pytest.mark.parametrize("study", STUDIES)
def test_every_study_composes_and_opens_with_its_command(study):
    text = (CONF / "experiment" / f"{study}.yaml").read_text()
    assert f"\n#   fadeout train -m +experiment={study}\n# Cost: " in text
    assert "\n# Expect: " in text
    with initialize_config_dir(str(CONF), version_base="1.3"):
        config = compose("config", [f"+experiment={study}"], return_hydra_config=True)
    swept = list(config.hydra.sweeper.params)
    config = composing.read_config(config)
    assert config.name == study
    assert "seed" in swept
    resolve(config.run())


def needed(choice, folder):
    """What an option asks of the rest of the config."""
    (folder / "table.csv").write_text("a,b,y\n0,1,no\n1,0,yes\n1,1,no\n")
    shapes = {"kernel_1": (2, 8), "kernel_2": (8, 8), "kernel_3": (8, 1)}
    np.savez(folder / "w.npz", **{name: np.ones(shape) for name, shape in shapes.items()})
    return {
        "init=given": [f"init.npz={folder}/w.npz"],
        "task=linear": ["training.loss_function=squared_error"],
        "task=table": [f"task.file={folder}/table.csv"],
    }.get(choice, [])


def test_every_yaml_composes_writes_its_defaults_out_and_can_be_traced(tmp_path):
    quick = ["training.steps=2", "training.record_every=1", "probes=[gradient_norm]", "name=all"]
    with initialize_config_dir(str(CONF), version_base="1.3"):
        runs = [
            composing.read_config(
                compose("config", [choice, *quick, *needed(choice, tmp_path)])
            ).run()
            for choice in choices()
        ]
    for run in runs:
        if run.init.name != "critical":  # whose weight variance is solved for
            said = dataclasses.replace(resolve(run), sources=())
            assert said == run, "the YAML leaves a parameter out"
    programs = {
        compile_group(run).program for run in runs
    }  # the examples and networks are traced here
    assert len(programs) > 10
    for program in programs:
        shapes = jax.eval_shape(partial(fit, program), *fit_arguments(program, 2))
        assert shapes.loss.shape == (128, 2)


@pytest.mark.parametrize("study", options("experiment"))
def test_every_study_composes(study):
    with initialize_config_dir(str(CONF), version_base="1.3"):
        config = compose("config", [f"+experiment={study}"], return_hydra_config=True)
        assert config.hydra.sweeper.params
        assert config.name == study


# --- composing many jobs


@pytest.mark.parametrize(
    "job",
    [
        ["activation=elu", "activation.alpha=0.5", "seed=3"],
        ["seed=3", "activation.alpha=0.5", "activation=elu", "optimizer.learning_rate=1"],
        ["+experiment=demo", "activation=relu", "model.width=4"],
        ["model.width=${model.depth}", "model.depth=5"],
        ["probes=[delta_norm]", "name=${activation.name}-${model.depth}"],
        ["optimizer={name: sgd, learning_rate: 0.5, b1: null, b2: null, eps: null}"],
        ["+activation.slope=0.2", "activation.name=leaky_relu"],
    ],
    ids=" ".join,
)
def test_fast_composition_equals_hydras(loader, job):
    job = [*job, "outputs=somewhere"]
    if not any(text.startswith("name=") for text in job):
        job.append("name=x")
    master = loader.load_configuration("config", [], RunMode.MULTIRUN)
    slow = composing.read_config(loader.load_sweep_config(master, job))
    assert composing.compose_jobs(loader, master, [["seed=1"], job, job])[1:] == [slow, slow]


def test_all_bad_jobs_are_reported_together(loader):
    master = loader.load_configuration("config", [], RunMode.MULTIRUN)
    jobs = [["model.depth=0"], ["seed=1"], ["model.depth=0", "seed=2"], ["model.dept=3"]]
    with pytest.raises(FadeoutError) as caught:
        composing.compose_jobs(loader, master, jobs)
    message = str(caught.value)
    assert message.startswith("3 jobs are not valid:\n  2 x model.depth must be at least 1, not 0")
    assert "dept" in message


# --- end to end


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    where = tmp_path_factory.mktemp("study")
    done = script(
        "train", "-m", "activation=step,tanh", "model.depth=1,2", "seed=range(0,3)", "name=study",
        "training.steps=20", cwd=where, pictures=True,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return where, done


def test_a_multirun_leaves_results_and_pictures_and_nothing_else(study):
    where, done = study
    results = fadeout.load(where / "outputs/study")
    assert results.sizes["run"] == 12
    assert os.listdir(where) == ["outputs"]
    assert os.listdir(where / "outputs") == ["study"]
    pictures = {p.name for p in (where / "outputs/study").iterdir()} - {"results"}
    assert {"gradient_profile_at_start.png", "share_solved.svg"} <= pictures
    assert "share of runs solved" in done.stdout
    assert "outputs/study" in done.stdout
    assert done.stderr == ""


def test_the_same_command_trains_nothing_again(study):
    where, _ = study
    done = script(
        "train", "-m", "activation=step,tanh", "model.depth=1,2", "seed=0,1,2", "name=study",
        "training.steps=20", cwd=where,
    )  # fmt: skip
    assert "12 runs were stored already" in done.stdout


def test_a_forecast_trains_nothing_and_knows_what_is_stored(study):
    where, _ = study
    before = sorted((where / "outputs").rglob("*"))
    shared = ["-m", "activation=step,tanh", "name=study", "training.steps=20", "forecast=true"]
    done = script("train", *shared, "model.depth=1,2", "seed=range(0,3)", cwd=where)
    assert done.returncode == 0, done.stderr
    assert "12 runs, 12 of them stored already" in done.stdout
    assert "nothing is left to train" in done.stdout
    done = script("train", *shared, "model.depth=2,3", "seed=range(0,4)", cwd=where)
    assert done.returncode == 0, done.stderr
    assert "16 runs, 6 of them stored already" in done.stdout
    assert "to train: 10 runs in 1 program, 2 chunks" in done.stdout
    assert sorted((where / "outputs").rglob("*")) == before


def test_axes_span_a_grid_in_one_job(tmp_path):
    axes = ["+axes.learning_rate=logspace:-3:1:8", "+axes.init.gain=[0.5,1,2]"]
    done = script(
        "train", *axes, "training.steps=20", "name=map", "probes=[]", cwd=tmp_path
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    results = fadeout.load(tmp_path / "outputs/map")
    rates = np.unique(results["learning_rate"])
    np.testing.assert_allclose(rates, np.logspace(-3, 1, 8))
    assert results.sizes["run"] == 24
    done = script("train", "+axes.model.depth=[1,0]", cwd=tmp_path)
    assert done.returncode == 1
    assert "model.depth must be at least 1, not 0" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("launcher", "options"),
    [("basic", ["hydra/sweeper=basic"]), ("joblib", ["hydra.launcher.n_jobs=2"])],
)
def test_other_launchers_give_bit_identical_results(study, launcher, options):
    where, _ = study
    done = script(
        "train", "-m", "activation=step,tanh", "model.depth=1,2", "seed=1", f"name={launcher}",
        "training.steps=20", f"hydra/launcher={launcher}", *options, cwd=where,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    other = fadeout.load(where / "outputs" / launcher)
    lanes = fadeout.load(where / "outputs/study")
    lanes = lanes.isel(run=lanes["seed"].values == 1)
    assert other.sizes["run"] == 4
    for name in lanes:
        np.testing.assert_array_equal(other[name].values, lanes[name].values)


def test_a_single_run_prints_its_layers_and_its_outcome(tmp_path):
    done = script("train", "name=one", "training.steps=200", cwd=tmp_path, pictures=True)
    assert done.returncode == 0, done.stderr
    for word in ("readout", "||delta||", "solved at step", "outputs/one", "run.png"):
        assert word in done.stdout
    pictures = {path.name for path in (tmp_path / "outputs/one").glob("*.*g")}
    assert pictures == {"run.png", "run.svg"}, "one figure says it all; shares of one run nothing"
    assert done.stderr == ""


def digests(folder):
    return {p.name: hashlib.sha256(p.read_bytes()).hexdigest() for p in folder.glob("*.*g")}


def test_pictures_are_byte_identical_over_two_processes(study):
    where, _ = study
    first = digests(where / "outputs/study")
    assert len(first) == 12
    done = script("plot", "outputs/study", cwd=where)
    assert done.returncode == 0, done.stderr
    assert digests(where / "outputs/study") == first


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["activation=rleu"], ["unknown activation 'rleu' (did you mean relu?)"]),
        (["init=he"], ["unknown init 'he'", "he_normal"]),
        (["seeds=3"], ["unknown key 'seeds' (did you mean seed?)"]),
        (["model.depth=0"], ["model.depth must be at least 1, not 0"]),
        (["model.depth=-1"], ["model.depth must be at least 1, not -1"]),
        (["model.depth=abc"], ["model.depth must be a whole number, not 'abc'"]),
        (["model.width=0"], ["model.width must be at least 1"]),
        (["optimizer.learning_rate=-1"], ["optimizer.learning_rate must be at least 0"]),
        (["optimizer.learning_rate=nan"], ["must be a finite number, not nan"]),
        (["probes=[gradient_nrom]"], ["unknown probe", "did you mean gradient_norm"]),
        (["model.dept=3"], ["unknown key of model 'dept' (did you mean depth?)"]),
        (["activation=null"], ["activation takes one option"]),
        (["activation=[relu,tanh]"], ["activation takes one option"]),
        (["name=${nope}"], ["nope"]),
        (["name=" + "x" * 300], ["name must be a folder below outputs"]),
        (["+foo=1"], ["unknown key 'foo'"]),
        (["training.record_every=7"], ["training.steps=994"]),
        (["activation=relu", "+activation.slope=1"], ["relu has no slope"]),
        (["name=../elsewhere"], ["below outputs"]),
        (["outputs=/proc/nowhere"], ["results cannot go to"]),
        (["-m", "model.depth=0,1,-2", "seed=range(0,4)"], ["8 jobs", "4 x", "-2"]),
        (["-m", "activation=tanh,rleu"], ["unknown activation 'rleu' (did you mean relu?)"]),
        (["-m", "+experiment=dmeo"], ["unknown experiment 'dmeo' (did you mean demo?)"]),
    ],
    ids=lambda value: " ".join(value),
)
def test_bad_input_is_answered_in_a_line_or_two_and_leaves_no_folder(tmp_path, arguments, words):
    done = script("train", *arguments, cwd=tmp_path)
    assert done.returncode == 1
    for word in words:
        assert word in done.stderr
    assert "Traceback" not in done.stderr
    assert len(done.stderr.strip().splitlines()) <= 5
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize(
    "arguments",
    [
        ["init=zeros"],
        ["activation=relu", "optimizer=sgd", "optimizer.learning_rate=1e6",
         "training.loss_function=squared_error"],
        ["probes=[]"],
        ["probes=[gradient_norm,saturation]", "model.depth=1"],
        ["training.steps=0", "name='a[b]'"],
    ],
    ids=" ".join,
)  # fmt: skip
def test_unusual_results_are_drawn_and_told(tmp_path, arguments):
    done = script("train", "training.steps=20", *arguments, cwd=tmp_path, pictures=True)
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    assert "pictures: " in done.stdout
    assert "name='a[b]'" not in arguments or "outputs/a[b]" in done.stdout


def test_a_multirun_without_a_name_goes_to_one_folder(tmp_path):
    done = script(
        "train", "-m", "init=zeros,he_normal", "task=xor,and",
        "activation=tanh,relu", "training.steps=0", "probes=[]", cwd=tmp_path,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    folders = [path for path in (tmp_path / "outputs").iterdir() if path.name != ".compiled"]
    assert len(folders) == 1
    assert fadeout.load(folders[0]).sizes["run"] == 8


def test_a_bad_job_under_hydras_own_launcher_is_an_error(tmp_path):
    done = script("train", "-m", "model.depth=0,0", "hydra/launcher=basic", cwd=tmp_path)
    assert done.returncode == 1
    assert "model.depth must be at least 1" in done.stderr


def test_tab_completion(tmp_path):
    words = {"COMP_LINE": "train.py activation=re", "COMP_POINT": "22"}
    done = script("train", "-sc", "query=bash", cwd=tmp_path, **words)
    assert "activation=relu" in done.stdout.split()


def test_a_full_traceback_on_request(tmp_path):
    done = script("train", "model.depth=0", cwd=tmp_path, HYDRA_FULL_ERROR="1")
    assert "Traceback" in done.stderr


def test_plotting_what_is_not_there(tmp_path):
    done = script("plot", "outputs/none", cwd=tmp_path)
    assert done.returncode == 1
    assert "no results under outputs/none" in done.stderr
    assert "Traceback" not in done.stderr


def test_help_and_config_are_useful(tmp_path):
    text = script("train", "--help", cwd=tmp_path).stdout
    assert "activation: elu, erf, gelu" in text
    text = script("train", "activation=relu", "--cfg", "job", cwd=tmp_path).stdout
    assert "depth: 2" in text
    assert os.listdir(tmp_path) == []


# --- other doors of Hydra


CALLBACK = """
class Note:
    def __getattr__(self, name):
        if not name.startswith("on_"):
            raise AttributeError(name)
        return lambda config, **about: self.note(name, about)

    def note(self, name, about):
        loss = about["job_return"].return_value if "job_return" in about else ""
        with open("notes", "a") as file:
            print(name, loss, file=file)
"""


def test_callbacks_hear_of_every_job(tmp_path):
    (tmp_path / "notes_of.py").write_text(CALLBACK)
    done = script(
        "train", "-m", "activation=step,tanh", "training.steps=0", "name=heard", "probes=[]",
        "+hydra.callbacks.note._target_=notes_of.Note", cwd=tmp_path, PYTHONPATH=str(tmp_path),
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    heard = [line.split() for line in (tmp_path / "notes").read_text().splitlines()]
    assert [line[0] for line in heard] == [
        "on_multirun_start", "on_job_start", "on_job_start", "on_job_end", "on_job_end",
        "on_multirun_end",
    ]  # fmt: skip
    assert all(float(line[1]) > 0 for line in heard if line[0] == "on_job_end")


def test_a_picture_that_fails_costs_a_line_and_not_the_results(study, monkeypatch, tmp_path):
    where, _ = study
    results = fadeout.load(where / "outputs/study")
    broken = figures.FIGURES["loss_curves"]._replace(draw=lambda results: 1 / 0)
    monkeypatch.setitem(figures.FIGURES, "loss_curves", broken)
    paths, failures = plots.save_each(results, tmp_path)
    assert failures == {"loss_curves": "ZeroDivisionError: division by zero"}
    assert {path.stem for path in paths} == set(figures.FIGURES) - {"loss_curves", "run"}


def test_what_was_asked_for_twice_is_told(tmp_path):
    done = script(
        "train", "-m", "seed=0,1,1", "training.steps=0", "probes=[]", "name=twice", cwd=tmp_path
    )
    assert done.returncode == 0, done.stderr
    assert "1 run asked for more than once, trained once" in done.stdout
    again = script("train", "seed=1", "training.steps=0", "probes=[]", "name=twice", cwd=tmp_path)
    assert "1 run was stored already and was not trained again" in again.stdout


def test_what_is_impossible_may_be_left_out(tmp_path):
    asked = ("-m", "activation=tanh,softplus", "init=critical", "seed=0,1", "training.steps=10",
             "outputs=o", "name=edge")  # fmt: skip
    assert script("train", *asked, cwd=tmp_path).returncode == 1
    done = script("train", *asked, "skip_impossible=true", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "left out, 2 runs: softplus has no edge of chaos" in done.stdout
    assert fadeout.load(tmp_path / "o/edge").sizes["run"] == 2
    none = script("train", "activation=softplus", "init=critical", "skip_impossible=true",
                  cwd=tmp_path)  # fmt: skip
    assert none.returncode == 1
    assert "none of the runs is possible" in none.stderr


def test_the_best_and_the_table_of_a_sweep(study):
    where, _ = study
    best = script("best", "outputs/study", "--by", "loss", "--most", "2", cwd=where)
    assert best.returncode == 0, best.stderr
    header, *rows = best.stdout.splitlines()
    assert header.split()[-4:] == ["runs", "loss", "low", "high"]
    assert len(rows) == 2
    assert float(rows[0].split()[-3]) <= float(rows[1].split()[-3])
    table = script("table", "outputs/study", cwd=where)
    runs = fadeout.load(where / "outputs/study")
    assert len(table.stdout.splitlines()) == 1 + runs.sizes["run"]
    assert table.stdout.startswith("id,activation")
    assert script("table", "outputs/none", cwd=where).returncode == 1


def test_the_time_left_does_not_count_compiling():
    from fadeout.cli.console import TimeLeft
    from fadeout.sweeps.sweep import Summary

    def summary(done, compiled):
        return Summary(asked=100, to_compile=2, compiled=[None] * compiled,
                       outcomes=Counter(solved=done))  # fmt: skip

    left = TimeLeft()
    assert left(summary(0, 0), 5.0) == "compiling 1"
    assert left(summary(0, 1), 50.0) == "compiling 2"
    assert left(summary(10, 2), 60.0) == "training"
    assert left(summary(30, 2), 62.0) == "7 s left", "20 runs in 2 s, 70 are left"


def test_who_is_interrupted_before_training_is_not_told_of_results(capsys):
    from fadeout.cli import app

    def stopped(begins):
        with app.stoppable():
            begins()
            raise KeyboardInterrupt

    for begins, words in (
        (lambda: None, "nothing was trained"),
        (app.TRAINING.set, "what was trained is stored"),
    ):
        with pytest.raises(SystemExit):
            stopped(begins)
        assert words in capsys.readouterr().out


def test_verdicts_are_told_by_activation(study):
    from fadeout.cli.console import verdict_line

    where, _ = study
    told = verdict_line(fadeout.load(where / "outputs/study"))
    assert [line.split()[0] for line in told.splitlines()] == ["verdicts:", "step", "tanh"]


def test_a_table_of_many_depths_shows_as_many_as_there_is_room_for(capsys, monkeypatch):
    depths = np.repeat(np.arange(1, 65), 20)
    labels = {"activation": np.full(depths.size, "leaky_relu"), "depth": depths}
    results = xr.Dataset(
        {"status": ("run", np.full(depths.size, "solved"))},
        {name: ("run", values) for name, values in labels.items()},
    )
    for width, shown in ((80, 5), (140, 9)):
        monkeypatch.setattr(console.console, "width", width)
        console.console.print(console.share_table(results))
        printed = capsys.readouterr().out
        assert printed.count("100% of 20") == shown, printed
        assert f"{shown} of 64 depths" in printed
        assert "depth 1 " in printed
        assert "depth 64 " in printed
        assert max(map(len, printed.splitlines())) <= width
