"""The plainest things that somebody types: every command bare, and every line of the README."""

import re
import shlex
import subprocess
import sys

import pytest

from fadeout.cli.main import COMMANDS
from helpers import COMPILED, ROOT, script

LONG = {"claims"}
"""It trains for minutes when it is asked for nothing."""

NEEDS = {"plot", "best", "table", "report", "versus", "examine"}
"""They need a folder or a file, and say so."""


def command(*words, cwd):
    run = [sys.executable, "-m", "fadeout", *words]
    return subprocess.run(
        run, cwd=cwd, capture_output=True, text=True, timeout=300, stdin=subprocess.DEVNULL
    )


def test_training_without_a_word_trains_and_stores(tmp_path):
    done = command("train", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert len(list(tmp_path.glob("outputs/*/results/*.nc"))) == 1
    assert list(tmp_path.glob("outputs/*/run.png"))
    assert not list(tmp_path.rglob("*.program")), "nothing that is executed lies beside results"


@pytest.mark.parametrize("name", sorted(set(COMMANDS) - LONG - {"train"}))
def test_a_command_without_a_word_answers(name, tmp_path):
    done = command(name, cwd=tmp_path)
    assert done.returncode == (2 if name in NEEDS else 0), done.stderr
    assert "Traceback" not in done.stdout + done.stderr
    assert done.stdout + done.stderr


def test_the_command_itself_and_a_word_that_is_none(tmp_path):
    assert command(cwd=tmp_path).stdout.startswith("usage: fadeout COMMAND")
    odd = command("trian", cwd=tmp_path)
    assert odd.returncode == 1
    assert "did you mean train" in odd.stderr


@pytest.mark.parametrize(
    "name",
    sorted(p.stem for p in (ROOT / "scripts").glob("*.py") if p.stem not in LONG | {"gallery"}),
)
def test_a_script_without_a_word_answers(name, tmp_path):
    done = script(name, cwd=tmp_path)
    assert done.returncode == (2 if name in NEEDS else 0), done.stderr
    assert "Traceback" not in done.stdout + done.stderr


MY_NET = """
import jax, jax.numpy as jnp
def loss(kernels, x):
    for kernel in kernels:
        x = jnp.tanh(x @ kernel)
    return jnp.mean(x)
def make():
    return loss, [jnp.eye(4)] * 4, jnp.ones((8, 4))
"""
"""What the README calls my_net.py is a reader's own."""


def lines_of_the_readme():
    text = (ROOT / "README.md").read_text()
    blocks = re.findall(r"```console\n(.*?)```", text, re.DOTALL)
    lines = [
        line for block in blocks for line in block.splitlines() if line.startswith("$ fadeout")
    ]
    lines += [
        f"$ {line}" for line in re.findall(r"`(fadeout [^`]*)`", text) if "claims" not in line
    ]
    found = [shlex.split(line.removeprefix("$ "), comments=True)[1:] for line in lines]
    first = ["train", "-m", "+experiment=demo"], *(words for words in found if "name=mine" in words)
    return [*first, *(words for words in found if words not in first)]


def test_every_line_of_the_readme_from_an_empty_folder(tmp_path):
    lines = lines_of_the_readme()
    assert len(lines) > 10
    (tmp_path / "my_net.py").write_text(MY_NET)
    for words in lines:
        name, *rest = words
        if name == "train" and "+experiment=gallery/remedies" in rest:
            rest.append("forecast=true")  # a minute of training, which the gallery's tests know
        if name == "list":
            done = command(name, *rest, cwd=tmp_path)
        elif name == "train":
            done = script(
                name, *rest, cwd=tmp_path, pictures="demo" in str(rest) or "mine" in str(rest)
            )
        else:
            done = script(name, *rest, cwd=tmp_path)
        assert done.returncode == 0, (words, done.stderr)
        assert "Traceback" not in done.stderr, words
    assert (tmp_path / "outputs/demo/report.html").exists()
    assert (tmp_path / "outputs/playground.html").exists()
    assert (tmp_path / "outputs/demo/gradient_profile_at_start.png").exists()
    assert COMPILED
