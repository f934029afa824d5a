"""The wheel, installed into another project's environment and used from another folder."""

import subprocess
import sys
import sysconfig
import venv
import zipfile

import pytest

from helpers import ROOT


def run(*command, cwd, **more):
    done = subprocess.run(list(map(str, command)), cwd=cwd, capture_output=True, text=True, **more)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    where = tmp_path_factory.mktemp("wheel")
    run(sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation",
        "--disable-pip-version-check", "-w", where, ROOT, cwd=where)  # fmt: skip
    (found,) = where.glob("*.whl")
    return found


@pytest.fixture(scope="module")
def elsewhere(wheel, tmp_path_factory):
    """A fresh environment that borrows this one's libraries, but not its fadeout."""
    where = tmp_path_factory.mktemp("another_project")
    venv.create(where / "env", with_pip=False, symlinks=True)
    site = next((where / "env").glob("lib/python*/site-packages"))
    # a path, and not a site folder: the editable install in there stays unseen
    (site / "borrowed.pth").write_text(sysconfig.get_paths()["purelib"] + "\n")
    run(sys.executable, "-m", "pip", "--python", where / "env/bin/python", "install", "--quiet",
        "--no-deps", "--disable-pip-version-check", wheel, cwd=where)  # fmt: skip
    return where


def test_the_menu_and_the_types_ship_inside(wheel):
    names = zipfile.ZipFile(wheel).namelist()
    for name in ("fadeout/conf/config.yaml", "fadeout/conf/experiment/demo.yaml",
                 "fadeout/py.typed", "fadeout/pages/report.js",
                 "hydra_plugins/fadeout_lanes.py"):  # fmt: skip
        assert name in names
    assert not [
        name for name in names if name.startswith(("tests/", "scripts/", "docs/", "benchmarks/"))
    ]


def test_the_command_works_from_another_folder(elsewhere):
    fadeout = elsewhere / "env/bin/fadeout"
    where = elsewhere / "work"
    where.mkdir()
    code = "import fadeout; print(fadeout.__file__)"
    assert str(elsewhere) in run(elsewhere / "env/bin/python", "-c", code, cwd=where)
    assert "leaky_relu (slope=0.01)" in run(fadeout, "list", "activations", cwd=where)
    assert "gallery/he_2015" in run(fadeout, "list", "studies", cwd=where)
    told = run(fadeout, "train", "-m", "activation=step,tanh", "training.steps=0",
               "probes=[delta_norm]", "name=first", cwd=where)  # fmt: skip
    assert "results:  outputs/first" in told
    assert "gradient_profile_at_start.png" in run(fadeout, "plot", "outputs/first", cwd=where)
    run(fadeout, "report", "outputs/first", cwd=where)
    assert {path.name for path in where.iterdir()} == {"outputs"}


@pytest.mark.parametrize("words", [["trian"], ["list", "activatoins"], ["plot", "outputs/none"]])
def test_a_mistake_is_answered_without_a_traceback(elsewhere, words):
    done = subprocess.run([elsewhere / "env/bin/fadeout", *words], cwd=elsewhere,
                          capture_output=True, text=True)  # fmt: skip
    assert done.returncode == 1
    assert "Traceback" not in done.stderr
    assert done.stderr.strip()


def test_every_command_has_help(elsewhere):
    told = run(elsewhere / "env/bin/fadeout", "--help", cwd=elsewhere)
    for line in told.splitlines()[2:]:
        name = line.split()[0]
        assert name in run(elsewhere / "env/bin/fadeout", name, "--help", cwd=elsewhere), name
