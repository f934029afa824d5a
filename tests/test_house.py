"""The plan of the house: imports point down, and what is light stays light."""

import shutil
import subprocess
import sys

import pytest

from helpers import ROOT


def contracts(where):
    command = [sys.executable, "-c", "from importlinter.cli import lint_imports_command as c; c()"]
    return subprocess.run([*command, "--no-cache"], cwd=where, capture_output=True, text=True,
                          env={"PYTHONPATH": str(where / "src"), "PATH": "/usr/bin:/bin",
                               "PYTHONUTF8": "1", "COLUMNS": "200"})  # fmt: skip


@pytest.mark.parametrize(
    ("room", "line", "broken"),
    [
        ("networks/tasks.py", "from fadeout.sweeps import store", "package to package BROKEN"),
        ("sweeps/results.py", "import matplotlib", "Only plots draw BROKEN"),
        (
            "training/outcomes.py",
            "from fadeout.training import snapshots",
            "Inside training BROKEN",
        ),
        ("plots/forest.py", "import rich", "rich is known by the console alone BROKEN"),
    ],
)
def test_a_planted_wrong_import_breaks_a_contract(tmp_path, room, line, broken):
    shutil.copytree(ROOT / "src", tmp_path / "src")
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    place = tmp_path / "src/fadeout" / room
    place.write_text(place.read_text() + f"\n{line}\n")
    done = contracts(tmp_path)
    assert done.returncode == 1
    assert broken in done.stdout


@pytest.mark.parametrize(
    ("imported", "heavy"),
    [
        ("fadeout; fadeout.Run; fadeout.FadeoutError",
         {"jax", "numpy", "xarray", "flax", "optax", "matplotlib", "hydra", "scipy", "rich"}),
        ("fadeout.cli.config", {"jax", "xarray", "flax", "optax", "matplotlib", "scipy"}),
        ("fadeout.analysis.comparison, fadeout.analysis.predictions", {"matplotlib", "hydra"}),
        ("fadeout.pages", {"matplotlib", "hydra"}),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)  # fmt: skip
def test_what_is_not_needed_is_not_imported(imported, heavy):
    code = f"import {imported}; import sys; print(*sorted({heavy!r} & sys.modules.keys()))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == []
