"""Results files from elsewhere: each is read as it is, or refused in one line that names it."""

import contextlib
import json
import os
import shutil
import subprocess
import sys

import h5py
import numpy as np
import pytest

import fadeout
from conftest import small_runs
from fadeout.registry import FadeoutError
from fadeout.sweeps import reading
from fadeout.sweeps.sweep import sweep


@pytest.fixture
def copy(small_sweep, tmp_path):
    folder = shutil.copytree(small_sweep, tmp_path / "copy")
    for path in reading.result_files(folder)[1:]:
        path.unlink()
    return folder


def replace(file, name, **how):
    del file[name]
    file.create_dataset(name, **how)


def attribute(name, value):
    return lambda file, path: file.attrs.__setitem__(name, value)


def external(file, path):
    secret = path.parent / "secret.txt"
    secret.write_bytes(b"root:x:0:0" * 100)
    shape = file["loss"].shape
    replace(file, "loss", shape=shape, dtype="f4", external=[(str(secret), 0, h5py.h5f.UNLIMITED)])


def soft_link(file, path):
    file.copy("loss", "elsewhere")
    del file["loss"]
    file["loss"] = h5py.SoftLink("/elsewhere")


def external_link(file, path):
    other = path.parent / "other.h5"
    with h5py.File(other, "w") as made:
        made["loss"] = file["loss"][:]
    del file["loss"]
    file["loss"] = h5py.ExternalLink(str(other), "/loss")


def virtual(file, path):
    shape = file["loss"].shape
    layout = h5py.VirtualLayout(shape, "f4")
    layout[...] = h5py.VirtualSource(str(path.parent / "other.h5"), "loss", shape)
    del file["loss"]
    file.create_virtual_dataset("loss", layout)


def enormous(file, path):
    replace(file, "loss", shape=(10**6, 4000), dtype="f4", chunks=(1000, 1000), compression="gzip")


def many_ids(file, path):
    replace(file, "id", shape=(2 * 10**9,), dtype="u8", chunks=(10**6,))


def other_shape(file, path):
    values = file["delta_norm"][:]
    replace(file, "delta_norm", data=values[:, :, :1])


def group(file, path):
    del file["loss"]
    file.create_group("loss")


def compound(file, path):
    replace(file, "loss", data=np.zeros(2, [("a", "f4"), ("b", "f4")]))


def no_status(file, path):
    del file["status"]


def odd_status(file, path):
    replace(file, "status", data=np.full(file["status"].shape, 77, np.int8))


def negative_status(file, path):
    replace(file, "status", data=np.full(file["status"].shape, -1, np.int8))


def text_ids(file, path):
    values = np.array(["not hexadecimal"] * file["id"].size, object)
    replace(file, "id", data=values, dtype=h5py.string_dtype())


def matrix_ids(file, path):
    replace(file, "id", data=np.resize(file["id"][:], (2, file["id"].size)))


def reals_as_ids(file, path):
    replace(file, "id", data=file["id"][:].astype("f8"))


def true_status(file, path):
    replace(file, "status", data=np.ones(file["status"].shape, bool))


def other_steps(file, path):
    file["step"][:] = file["step"][:] + 1


def text_layers(file, path):
    values = np.array(["one"] * file["layer"].size, object)
    replace(file, "layer", data=values, dtype=h5py.string_dtype())


def text_loss(file, path):
    values = np.full(file["loss"].shape, "small", object)
    replace(file, "loss", data=values, dtype=h5py.string_dtype())


def text_seed(file, path):
    values = np.full(file["id"].shape, "first", object)
    file.pop("seed", None)
    file.create_dataset("seed", data=values, dtype=h5py.string_dtype())


def own_depths(file, path):
    file["depth"] = np.full(file["id"].shape, 10**12)


CONFIG = json.dumps({"model": {"depth": 10**9}})
CRAFTED = {
    "external storage": external, "soft link": soft_link, "external link": external_link,
    "virtual": virtual, "enormous": enormous, "many ids": many_ids, "other shape": other_shape,
    "group": group, "compound": compound, "no status": no_status, "odd status": odd_status,
    "negative status": negative_status, "text ids": text_ids,
    "matrix ids": matrix_ids, "reals as ids": reals_as_ids, "true status": true_status,
    "other steps": other_steps, "text layers": text_layers, "text loss": text_loss,
    "text seed": text_seed, "own depths": own_depths,
    "no format": lambda file, path: file.attrs.__delitem__("format"),
    "number as format": attribute("format", 3),
    "later format": attribute("format", "fadeout results, version 99"),
    "config no json": attribute("config", "{"), "config a list": attribute("config", "[]"),
    "config a number": attribute("config", 7),
    "config unknown key": attribute("config", '{"a": 1}'),
    "config deep": attribute("config", "[" * 5000),
    "config out of range": attribute("config", CONFIG),
    "config an array": attribute("config", np.zeros(3)),
    "no config": lambda file, path: file.attrs.__delitem__("config"),
    "protocol no json": attribute("protocol", "{"), "protocol a list": attribute("protocol", "[1]"),
    "protocol bytes": attribute("protocol", np.zeros(2)),
}  # fmt: skip


@pytest.mark.parametrize("kind", CRAFTED)
def test_a_crafted_file_is_one_clear_line(copy, kind):
    (path,) = reading.result_files(copy)
    with h5py.File(path, "r+") as file:
        CRAFTED[kind](file, path)
    with pytest.raises(FadeoutError) as caught:  # noqa: PT012  (what one does not read another does)
        results = fadeout.load(copy)
        for name in results:
            results[name].values  # noqa: B018  (read when it is looked at)
        sweep(small_runs(), copy)
    message = str(caught.value)
    assert str(path) in message
    assert len(message.splitlines()) == 1
    assert "root:x" not in message


def test_unknown_variables_are_not_read(copy):
    (path,) = reading.result_files(copy)
    before = fadeout.load(copy)
    with h5py.File(path, "r+") as file:
        file["surprise"] = np.zeros(3)
        file["ghost"] = h5py.ExternalLink("/etc/passwd", "/x")
    after = fadeout.load(copy)
    assert set(after.variables) == set(before.variables)


@pytest.mark.parametrize("kind", ["fifo", "folder", "dangling", "loop"])
def test_what_is_no_file_is_not_waited_for(copy, kind):
    path = copy / "results" / "0000.nc"
    if kind == "fifo":
        os.mkfifo(path)
    elif kind == "folder":
        path.mkdir()
    else:
        path.symlink_to(path if kind == "loop" else "nowhere")
    with pytest.raises(FadeoutError, match=r"0000\.nc"):
        fadeout.load(copy)


def test_a_file_that_may_not_be_read_is_not_called_bad(copy):
    (path,) = reading.result_files(copy)
    path.chmod(0)
    code = f"import os, fadeout; os.setuid(65534); fadeout.load({str(copy)!r})"
    if os.getuid():
        pytest.skip("only root may become another user")
    for folder in (copy, *copy.parents):
        if folder.stat().st_uid == os.getuid() and folder != folder.parent:
            folder.chmod(folder.stat().st_mode | 0o755)
    done = subprocess.run([sys.executable, "-c", "import fadeout.sweeps.store\n" + code],
                          capture_output=True, text=True)  # fmt: skip
    assert f"{path} cannot be read: Permission denied" in done.stderr
    assert "move it away" not in done.stderr


def test_a_file_that_another_program_holds_is_not_called_bad(copy):
    (path,) = reading.result_files(copy)
    code = f"import h5py; f = h5py.File({str(path)!r}, 'r+'); print('open', flush=True); input()"
    with subprocess.Popen(
        [sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as holder:
        assert holder.stdout.readline().strip() == "open"
        with pytest.raises(FadeoutError, match="held by another program") as caught:
            fadeout.load(copy)
    assert "move it away" not in str(caught.value)


def everything(folder):
    results = fadeout.load(folder)
    return {name: results[name].values for name in results.variables}


def test_a_flipped_bit_is_found_or_harmless(copy):
    (path,) = reading.result_files(copy)
    whole = path.read_bytes()
    before = everything(copy)
    values = list(before.values())
    rng = np.random.default_rng(0)
    changed = 0
    for place in rng.choice(len(whole), 200, replace=False):
        flipped = bytearray(whole)
        flipped[place] ^= 1 << int(rng.integers(8))
        path.write_bytes(flipped)
        with contextlib.suppress(FadeoutError):
            after = everything(copy)
            changed += list(after) != list(before) or not all(map(equal, after.values(), values))
    assert changed == 0


def equal(a, b):
    return np.array_equal(a, b, equal_nan=a.dtype.kind == "f")


def test_another_format_is_told_from_a_damaged_file(copy):
    (path,) = reading.result_files(copy)
    with h5py.File(path, "r+") as file:
        file.attrs["format"] = "fadeout results, version 3"
    with pytest.raises(FadeoutError, match="is of another version of fadeout"):
        fadeout.load(copy)
