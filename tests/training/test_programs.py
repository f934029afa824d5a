"""What a compiled program belongs to, and where it is kept."""

import dataclasses
import functools
import os
import stat
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fadeout import theory
from fadeout.cli.config import Config
from fadeout.config import Activation, Init, Model, Optimizer, Run, Task, Training
from fadeout.networks.activations import ACTIVATIONS
from fadeout.networks.initializers import INITIALIZERS
from fadeout.networks.optimizers import OPTIMIZERS
from fadeout.networks.probes import PROBES
from fadeout.networks.tasks import TASKS
from fadeout.registry import FadeoutError
from fadeout.training import program_cache, programs
from fadeout.training.compile_groups import compile_group, slope_keys
from fadeout.training.program_cache import counting_compiles, machine_name, use_program_cache
from fadeout.training.programs import fit_arguments, train_runs

SHORT = Training(2, 1)


def final(run: Run) -> float:
    return float(train_runs(run).loss[-1, 0])


def double(z):
    return 2 * z


@pytest.mark.few("tanh", "identity")
def test_a_function_that_is_added_or_replaced_is_the_one_that_trains(monkeypatch):
    run = Run(Activation("mine"), training=SHORT, probes=())
    final(Run(training=SHORT, probes=()))  # a program of the table as it was
    monkeypatch.setitem(ACTIVATIONS, "mine", jnp.tanh)
    assert final(run) == pytest.approx(final(Run(training=SHORT, probes=())), rel=1e-6)
    monkeypatch.setitem(ACTIVATIONS, "mine", double)
    linear = Run(Activation("identity"), Init(gain=2.0), training=SHORT, probes=())
    assert final(run) != final(Run(training=SHORT, probes=()))
    assert (
        train_runs(run).loss[0, 0] != train_runs(linear).loss[0, 0]
    )  # the first layer is not scaled
    known = theory.moments("mine", 1.0).square
    assert known == pytest.approx(4.0), "theory knows of it as well"
    monkeypatch.setitem(ACTIVATIONS, "mine", jnp.sin)
    assert theory.moments("mine", 1.0).square == pytest.approx((1 - np.exp(-2)) / 2)


def test_a_name_that_is_gone_is_refused(monkeypatch):
    monkeypatch.setitem(ACTIVATIONS, "mine", double)
    compile_group(Run(Activation("mine")))
    monkeypatch.delitem(ACTIVATIONS, "mine")
    with pytest.raises(FadeoutError, match="unknown activation 'mine'"):
        compile_group(Run(Activation("mine")))


def half(key, shape, dtype):
    return jnp.full(shape, 0.5, dtype)


def other_task(key, levels):
    return np.zeros((3, 2)), np.array([0, 1, 0])


def sevenths(layer):
    return jnp.asarray(1 / 7)


@pytest.mark.parametrize(
    ("table", "name", "entry", "run"),
    [
        (INITIALIZERS, "zeros", half, Run(init=Init("zeros"))),
        (TASKS, "or", other_task, Run(task=Task("or"))),
        (OPTIMIZERS, "sgd", OPTIMIZERS["adagrad"], Run(optimizer=Optimizer("sgd"))),
        (PROBES, "weight_norm", PROBES["weight_norm"]._replace(function=sevenths),
         Run(probes=("weight_norm",))),
        (ACTIVATIONS, "relu", double, Run(Activation("relu"), Init("lsuv"))),
    ],
    ids=["init", "task", "optimizer", "probe", "activation in an initialiser"],
)  # fmt: skip
def test_every_table_belongs_to_the_key(table, name, entry, run, monkeypatch):
    before = compile_group(run)
    monkeypatch.setitem(table, name, entry)
    assert compile_group(run) != before
    monkeypatch.undo()
    assert compile_group(run) == before


@pytest.fixture
def folder(tmp_path):
    """Programs are kept there, for as long as a test takes."""
    before = program_cache.CACHE_FOLDER["folder"]
    use_program_cache(str(tmp_path))
    yield tmp_path / machine_name()
    program_cache.CACHE_FOLDER["folder"] = before


TINY = Run(model=Model(1, 3), training=Training(1, 1), probes=())


def compile_tiny(run=TINY):
    """Compiled, or taken from the folder: how many were found, and why others were refused."""
    compile_fit = programs.compile_fit.__wrapped__
    with counting_compiles() as tally:
        program = compile_fit(compile_group(run).program, 16, jax.local_devices()[0])
    return program, sum(tally.found), tally.refused


def compile_small():
    """Likewise, of a program that takes no time: how many were found, and why others not."""

    def compile_now():
        return jax.jit(lambda x: x + 1).lower(jnp.zeros(3)).compile()

    with counting_compiles() as tally:
        program_cache.load_or_compile(("x + 1",), False, jax.local_devices()[0], compile_now)
    return sum(tally.found), tally.refused


def outcome(program):
    values = fit_arguments(compile_group(TINY).program, 16)
    rng = np.random.default_rng(0)
    filled = jax.tree.map(lambda a: rng.normal(size=a.shape).astype(a.dtype), values)
    return jax.tree.leaves(program(*filled))


@pytest.mark.few("tanh")
def test_a_kept_program_is_loaded_and_does_the_same(folder, monkeypatch):
    first, hits, _ = compile_tiny()
    assert hits == 0
    assert len(list(folder.iterdir())) == 1
    monkeypatch.setattr(programs, "compile_for", None)  # nothing may be traced now
    second, hits, refused = compile_tiny()
    assert (hits, refused) == (1, [])
    for one, two in zip(outcome(first), outcome(second), strict=True):
        np.testing.assert_array_equal(one, two)


LOADED = """
import numpy as np
from fadeout.config import Init, Model, Run, Training
from fadeout.training.program_cache import counting_compiles, use_program_cache
from fadeout.training.programs import train_runs
use_program_cache({folder!r})
run = Run(init=Init("orthogonal"), model=Model(3, 4), training=Training(1, 1),
          probes=("layer_largest", "ntk_largest"))
with counting_compiles() as tally:
    trace = train_runs(run)
print(sum(tally.found), float(trace.layers["ntk_largest"][1, 0, 0]))
"""


def test_a_program_that_calls_lapack_is_loaded_by_a_process_that_has_compiled_none(tmp_path):
    """Loaded without lowering, it would jump to functions that nobody has looked up."""
    code = LOADED.format(folder=str(tmp_path))
    told = []
    for _ in range(2):
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        told.append(done.stdout.split())
    assert [hits for hits, _ in told] == ["0", "3"]
    assert told[0][1] == told[1][1]


def test_what_jax_has_from_a_cache_of_its_own_is_not_kept(tmp_path):
    """Written again, such an executable would lack kernels."""
    code = """import sys
from fadeout.config import Run
from fadeout.training import compile_groups, program_cache, programs
program_cache.use_program_cache(sys.argv[1])
(of,) = compile_groups.slope_keys(compile_groups.compile_group(Run("tanh"))).values()
print(programs._largest_slopes(of, ()))"""
    environment = os.environ | {
        "JAX_COMPILATION_CACHE_DIR": str(tmp_path / "jax"),
        "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
    }
    kept = []
    for folder in ("first", "second", "second"):
        command = [sys.executable, "-c", code, str(tmp_path / folder)]
        told = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
        assert float(told.stdout) == 1
        kept.append(len(list((tmp_path / folder).glob("*/*.program"))))
    assert kept == [1, 0, 0]


def test_programs_follow_the_folder_and_are_apart_by_version_and_processor(folder, tmp_path):
    compile_small()
    use_program_cache(str(tmp_path / "another"))
    assert compile_small()[0] == 0
    assert len(list((tmp_path / "another" / machine_name()).iterdir())) == 1
    assert f"jaxlib-{jax.lib.__version__}-" in machine_name()


@pytest.mark.parametrize("harm", ["cut off", "empty", "foreign", "flipped", "another program's"])
def test_an_entry_that_is_not_sound_is_compiled_again_and_replaced(folder, harm):
    compile_small()
    (path,) = folder.iterdir()
    whole = path.read_bytes()
    if harm == "another program's":
        (of,) = slope_keys(compile_group(TINY)).values()
        programs.compile_slope.__wrapped__(of)
        (other,) = (p for p in folder.iterdir() if p != path)
        path.write_bytes(other.read_bytes())
    else:
        flipped = bytearray(whole)
        flipped[len(whole) // 2] ^= 1
        path.write_bytes({"cut off": whole[: len(whole) // 2], "empty": b"", "foreign": b"x" * 5000,
                          "flipped": bytes(flipped)}[harm])  # fmt: skip
    hits, refused = compile_small()
    assert hits == 0
    assert len(refused) == 1
    assert compile_small() == (1, []), "replaced"


@pytest.mark.few("tanh", "relu")
def test_what_decides_a_program_is_in_its_key(folder, monkeypatch):
    compile_tiny()
    assert compile_tiny(dataclasses.replace(TINY, seed=3))[1] == 1
    assert compile_tiny(dataclasses.replace(TINY, activation=Activation("relu")))[1] == 1
    monkeypatch.setattr(
        program_cache, "environment_key", lambda: "other sources, versions or flags"
    )
    assert compile_tiny()[1] == 0
    monkeypatch.undo()
    monkeypatch.setattr(program_cache, "machine_name", lambda: "another processor")
    use_program_cache(str(folder.parent))
    assert compile_tiny()[1] == 0
    monkeypatch.undo()
    use_program_cache(str(folder.parent))
    monkeypatch.setitem(ACTIVATIONS, "mine", double)
    found = len(list(folder.iterdir()))
    assert compile_tiny()[1] == 0
    assert len(list(folder.iterdir())) == found + 1, "a user's function is known by its digest"
    monkeypatch.setitem(ACTIVATIONS, "mine", lambda z: 2 * z)
    assert compile_tiny()[1] == 1, "which is of what it computes"
    monkeypatch.setitem(ACTIVATIONS, "mine", lambda z: 3 * z)
    assert compile_tiny()[1] == 0


@pytest.mark.parametrize("harm", ["a pipe", "a link to another's", "open to all", "another user's"])
def test_a_folder_that_others_may_have_written_into_is_refused(folder, harm, monkeypatch):
    """A program is unpickled: whoever could have put it there could run anything."""
    compile_small()
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    (path,) = folder.iterdir()
    if harm == "a pipe":
        path.unlink()
        os.mkfifo(path)
        assert compile_small()[0] == 0, "and it does not wait for a writer"
        return
    if harm == "a link to another's":
        elsewhere = folder.rename(folder.with_name("elsewhere"))
        folder.symlink_to(elsewhere)
        words = "is a file, not a folder"
    elif harm == "open to all":
        folder.chmod(0o777)
        words = "others may write into"
    else:
        monkeypatch.setattr(os, "getuid", lambda: 12345)
        words = "belongs to another user"
    with pytest.raises(FadeoutError, match=words):
        use_program_cache(str(folder.parent))


def test_programs_lie_in_the_users_own_cache_and_never_beside_results(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    before = program_cache.CACHE_FOLDER["folder"]
    try:
        use_program_cache(program_cache.DEFAULT_CACHE)
        place = program_cache.CACHE_FOLDER["folder"]
        compile_small()
    finally:
        program_cache.CACHE_FOLDER["folder"] = before
    assert place.is_relative_to(tmp_path / "cache" / "fadeout")
    assert {stat.S_IMODE(p.stat().st_mode) for p in (place, place.parent)} == {0o700}
    assert Config().cache == program_cache.DEFAULT_CACHE


def test_what_was_edited_after_it_was_imported_is_not_kept(folder, monkeypatch):
    monkeypatch.setattr(program_cache, "source_digest", lambda: "edited")
    compile_small()
    assert not folder.exists()


def test_settings_at_run_time_are_in_the_key(folder):
    compile_small()
    with jax.default_matmul_precision("float32"):
        assert compile_small()[0] == 0
    assert compile_small()[0] == 1


@pytest.mark.few("tanh")
def test_the_same_seed_is_the_same_network_in_either_precision():
    draw = functools.partial(Training, 0, 1)
    for init, task in (("he_normal", Task()), ("orthogonal", Task("teacher")),
                       ("uniform", Task("noisy_xor"))):  # fmt: skip
        single, double_ = (
            train_runs(
                Run(init=Init(init, 1.3, 0.2), task=task, training=draw(dtype=dtype), probes=(),
                    seed=5)
            )
            for dtype in ("float32", "float64")
        )  # fmt: skip
        for name in ("first", "hidden", "readout"):
            for part in ("kernel", "bias"):
                one, two = (
                    np.asarray(getattr(getattr(trace.model, name), part)[...])
                    for trace in (single, double_)
                )
                np.testing.assert_allclose(one, two, rtol=3e-7, atol=1e-9)
        np.testing.assert_allclose(single.loss, double_.loss, rtol=1e-5)
