"""What strangers typed: understood, or refused in a line, before any compute."""

import os

import pytest
from hydra import initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from hydra.core.hydra_config import HydraConfig
from hydra.errors import HydraException
from hydra.types import RunMode
from omegaconf.errors import OmegaConfBaseException

from fadeout.cli import app
from fadeout.cli.compose import check_command_line, compose_jobs, expand_sweep, read_config
from fadeout.cli.config import Config
from fadeout.registry import FadeoutError
from fadeout.schema import kinds, sections_of
from helpers import CONF, script


def planned(*arguments: str) -> dict:
    """What a command line plans to do: composed and checked, and nothing computed."""
    arguments = check_command_line(arguments, CONF)
    swept = "-m" in arguments
    overrides = [text for text in arguments if text != "-m"]
    with initialize_config_dir(str(CONF), version_base="1.3"):
        loader = GlobalHydra.instance().config_loader()
        mode = RunMode.MULTIRUN if swept else RunMode.RUN
        master = loader.load_configuration("config", overrides, mode)
        HydraConfig.instance().set_config(master)
        if not swept:
            return app.plan_sweeps([read_config(master)])
        task = list(master.hydra.overrides.task)
        jobs = expand_sweep(loader, master.hydra.sweeper.get("params") or {}, task)
        options = {
            k: v for k, v in master.hydra.launcher.items() if k not in ("_target_", "job_dirs")
        }
        return app.plan_sweeps(compose_jobs(loader, master, jobs), app.Launch(**options))


def count(*arguments: str) -> int:
    return sum(sweep.index.unique().size for sweep in planned(*arguments).values())


@pytest.fixture(autouse=True)
def nowhere(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    yield
    assert os.listdir(tmp_path) == [], "a check wrote something"


REFUSED = {
    # sweeps of nothing, without an end, or too large
    "-m seed=range(5,5)": "the sweep over seed has no values",
    "-m activation=glob(rleu*)": "no activation is like",
    "-m +experiment=glob(clams/*)": "no experiment is like",
    "-m optimizer.learning_rate=interval(0,1)": "has no end",
    "-m seed=range(0,3,0)": "a step that is not 0",
    "-m seed=range(0,1e9)": "1,000,000,000 jobs, more than 10,000,000",
    "-m seed=range(0,10000) model.width=range(1,10000)": "jobs, more than 10,000,000",
    "+axes.gain=linspace:0:1:100000 +axes.learning_rate=linspace:0:1:100000": "10,000,000,000 runs",
    "+axes.seed=[1,2] zipped=[seed,seed]": "named twice in zipped",
    # what does not fit this machine
    "training.steps=100000000 training.record_every=1": "GB of this machine",
    # Hydra's places, which are not ours
    "hydra.run.dir=/proc/x": "hydra.run.dir has no effect here",
    "-m hydra.sweep.dir=elsewhere": "hydra.sweep.dir has no effect here",
    "-m hydra.sweep.subdir=a": "hydra.sweep.subdir has no effect here",
    "hydra.job.chdir=true": "hydra.job.chdir has no effect here",
    "-m hydra.job.chdir=true hydra/launcher=basic": "hydra.job.chdir has no effect here",
    # launching
    "hydra.launcher.executor=foo": "is of a multirun: add -m",
    "hydra.launcher.jobs=2": "is of a multirun: add -m",
    "-m seed=1,2 hydra.launcher.executor=foo": "unknown hydra.launcher.executor 'foo'",
    "-m seed=1,2 hydra.launcher.jobs=0": "hydra.launcher.jobs must be at least 1, not 0",
    "-m seed=1,2 hydra.launcher.jobs=-5": "hydra.launcher.jobs must be at least 1, not -5",
    # names and places
    "name=.compiled": "not hidden",
    "name=a/.b": "not hidden",
    "name='a\\nb'": None,
    "name='a\nb'": "printable",
    "name='a\x1bb'": "printable",
    "outputs=/proc/nowhere": "results cannot go to",
    "cache=/dev/null": "is a file, not a folder",
    # losses and tasks
    "task=linear task.inputs=bipolar": "has no classes",
    "task=xor task.examples=32": "xor has no examples",
    "-m task=teacher,xor task.examples=32": "xor has no examples",
    "activation=relu activation.slope=0.2": "relu has no slope",
    "depth=4": "unknown key 'depth': it is model.depth here",
    "-m lr=0.1,0.2": "unknown key 'lr': it is optimizer.learning_rate here",
    "clip=1": "it is optimizer.clip here",
    # figures
    "figure={quantity:losss}": "unknown quantity 'losss' (did you mean loss?)",
    "figure={quantiti:loss}": "unknown key of figure 'quantiti'",
    "figure={quantity:example_correlation}": "unknown quantity",
    "figure={at:-1}": "at takes start, end or a recorded step",
    "figure={at:nan}": "figure.at must be a word",
    "figure={at:'²'}": "at takes start, end or a recorded step",
    "figure={at:7}": "at takes start, end or a recorded step",
    "figure={layer:abc}": "figure.layer must be a whole number",
    "figure={layer:9}": "layer must be from 1 to 3",
    "figure={row:layer,column:layer}": "unknown config value 'layer'",
    "figure={row:depth,column:depth}": "depth cannot be two of color, row and column",
    "figure={color:layer,x:layer}": "x is the layer already",
    "figure={color:layer,quantity:loss}": "loss has none",
    "figure={map:3}": "map takes two names",
    "figure={map:[[1],[2]]}": "map takes two names",
    "figure={map:[depth,width]}": "map takes two swept numbers",
    "-m model.depth=1,2 figure={map:[depth,depth]}": "map takes two swept numbers, not depth twice",
    "formats=[gif]": "unknown format 'gif'",
    "figure={x:[a]}": "figure.x must be a word",
    "figure={x:seeed}": "unknown axis 'seeed'",
}  # fmt: skip


@pytest.mark.parametrize("line", REFUSED)
def test_what_cannot_be_done_is_refused_in_a_line(line):
    words = REFUSED[line]
    if words is None:
        planned(*line.split(" "))
        return
    with pytest.raises(FadeoutError) as caught:
        planned(*line.split(" "))
    assert words in str(caught.value)
    assert len(str(caught.value).splitlines()) <= 3


UNDERSTOOD = {
    "task=teacher task.examples=32": 1,
    "-m task=teacher,noisy_xor task.examples=32,64": 4,
    "-m activation=leaky_relu activation.slope=0.1,0.2": 2,
    "-m +experiment=demo seed=range(0,2)": 32,
    "-m +experiment=demo,gallery/glorot_2010 seed=0": 18,
    "-m +experiment=glob(gallery/s*_2014)": 4,
    "-m seed=0,1,1": 2,
    "+axes.learning_rate=[0.1,0.1,0.01] +axes.gain=[1,2,2] zipped=[learning_rate,gain]": 3,
    "+axes.learning_rate=[0.1,0.1] +axes.gain=[1,2] zipped=[learning_rate,gain]": 2,
    "axes.gain=[1,2] axes.seed=[1,2]": 4,
    "axes={gain:[1,2]}": 2,
    "formats=[] figure={x:step}": 1,
    "figure={quantity:loss} -m model.depth=1,2": 2,
    "-m seed=1,2 hydra.launcher.job_dirs=true hydra.sweep.dir=logs": 2,
    "-m model.depth=1,2 model.width=2,4 figure={quantity:solved,map:[depth,width]}": 4,
    "task.examples=65536 task.features=4096 task=teacher": 1,
}  # fmt: skip


@pytest.mark.parametrize("line", UNDERSTOOD)
def test_what_can_be_done_is_understood(line):
    assert count(*line.split(" ")) == UNDERSTOOD[line]


@pytest.mark.parametrize("study", ["+experiment=gallery/glorot_2010", "hydra.mode=MULTIRUN"])
def test_launching_is_understood_where_a_study_is_a_multirun_by_itself(study):
    line = [study, "hydra.launcher.executor=processes"]
    assert check_command_line(line, CONF) == line


@pytest.mark.parametrize("word", ["2024_11_25", "true", "007", "1e3", "a-b", "x=y"])
def test_a_name_is_the_word_that_was_typed(word):
    (folder,) = planned(f"name={word}" if "=" not in word else f"name='{word}'")
    assert str(folder) == f"outputs/{word}"


def test_home_is_home(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    (folder,) = planned("outputs='~/here'", "name=a")
    assert folder == tmp_path / "here" / "a"


NAMES = [
    "a",
    "${now:%Y}/x",
    "${now:%Y-%m}_${model.depth}",
    "${now:%Y}/${activation.name}/${now:%m}",
    "run_${hydra:job.num}",
    "${hydra:job.num}/${model.depth}",
    "${model.width}x${model.depth}",
    "${task.name}/d${model.depth}",
]


@pytest.mark.parametrize("name", NAMES)
def test_the_launcher_and_hydras_own_agree_on_every_name(loader, name):
    master = loader.load_configuration("config", [f"name={name}"], RunMode.MULTIRUN)
    swept = [["model.depth=1", "activation=relu"], ["model.depth=2", "activation=tanh"]]
    jobs = [[*job, f"name={name}"] for job in swept]
    theirs = []
    for number, job in enumerate(jobs):
        config = loader.load_sweep_config(master, job)
        config.hydra.job.num = config.hydra.job.id = number
        HydraConfig.instance().set_config(config)
        theirs.append(config.name)
    assert [config.name for config in compose_jobs(loader, master, jobs)] == theirs


ODD = ["nan", "-inf", "1e400", "-1", "''", "null", "[]", "{a:1}", "²", "true", "0.5", "'a b'",
       "1e39", "99999999999999999999", "${oc.env:HOME}", "${nope}", "[[1]]", "\\n"]  # fmt: skip


def keys():
    for section in kinds(Config):
        if section in sections_of(Config):
            yield section
            yield from (f"{section}.{key}" for key in kinds(kinds(Config)[section][0]))
        else:
            yield section


LINES = [
    f"{key}={ODD[(7 * i + 5 * j) % len(ODD)]}" for i, key in enumerate(keys()) for j in range(5)
]


def answer(line):
    try:
        planned(line)
    except FadeoutError as error:
        return str(error)
    except (HydraException, OmegaConfBaseException):
        pass  # Hydra's own, which its command line answers without a traceback
    return ""


@pytest.mark.parametrize("start", range(0, len(LINES), 40))
def test_odd_values_never_end_in_a_traceback(start):
    for line in LINES[start : start + 40]:
        assert len(answer(line).splitlines()) <= 3, line


def test_the_command_line_says_so_too(tmp_path):
    done = script("train", "-m", "seed=range(5,5)", cwd=tmp_path)
    assert done.returncode == 1
    assert "Traceback" not in done.stderr
    assert "the sweep over seed has no values" in done.stderr
