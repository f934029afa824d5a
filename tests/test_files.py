"""Files that are whole or not there."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from fadeout.files import machine_id, remove_abandoned, temporary_name, write_atomically
from fadeout.registry import FadeoutError


def test_what_was_there_stays_until_the_new_file_is_whole(tmp_path, monkeypatch):
    path = tmp_path / "deep" / "page.html"
    assert write_atomically(path, b"old").read_bytes() == b"old"

    def full(handle):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(FadeoutError, match=r"page\.html cannot be written: No space left"):
        write_atomically(path, b"new")
    assert path.read_bytes() == b"old"
    assert [p.name for p in path.parent.iterdir()] == ["page.html"]


def test_all_is_on_the_disk_before_it_bears_its_name(tmp_path, monkeypatch):
    done = []
    for name in ("fsync", "replace"):
        real = getattr(os, name)
        monkeypatch.setattr(os, name, lambda *a, n=name, f=real: (done.append(n), f(*a))[1])
    write_atomically(tmp_path / "page", b"new")
    assert done[:2] == ["fsync", "replace"]


def test_only_regular_files_are_replaced_and_links_are_followed(tmp_path):
    target, link = tmp_path / "target", tmp_path / "link"
    target.write_bytes(b"old")
    link.symlink_to(target)
    write_atomically(link, b"new")
    assert link.is_symlink()
    assert target.read_bytes() == b"new"
    for odd in ("fifo", "loop"):
        path = tmp_path / odd
        os.mkfifo(path) if odd == "fifo" else path.symlink_to(path)
        with pytest.raises(FadeoutError, match=f"{odd} cannot be written"):
            write_atomically(path, b"")
    with pytest.raises(
        FadeoutError, match=r"/dev/full cannot be written: it is not a regular file"
    ):
        write_atomically(Path("/dev/full"), b"")
    with pytest.raises(FadeoutError, match="it is a folder, or no name at all"):
        write_atomically(Path(), b"")


def test_names_of_threads_and_machines_never_collide():
    assert len({temporary_name("partial") for _ in range(1000)}) == 1000


def test_what_dead_writers_left_is_swept_up_and_what_the_living_write_is_not(tmp_path):
    dead = subprocess.Popen([sys.executable, "-c", ""])
    dead.wait()
    stem = ".0123abcd."
    mine, gone, other, old = (
        tmp_path / name
        for name in (
            temporary_name("partial"), f"{stem}{machine_id()}.{dead.pid}.partial",
            f"{stem}another-machine.1.partial", f"{stem}another.machine.1.writer",
        )
    )  # fmt: skip
    users = [tmp_path / name for name in (".notes.partial", ".a.b.c.partial", ".my.2024.1.writer")]
    folder = tmp_path / f"{stem}a.1.partial"
    folder.mkdir()
    for path in (mine, gone, other, old, *users):
        path.touch()
    for path in (old, *users, folder):
        os.utime(path, (0, 0))
    remove_abandoned(tmp_path)
    assert sorted(tmp_path.iterdir()) == sorted([mine, other, folder, *users])


def test_a_process_of_another_container_is_not_taken_for_a_dead_one_of_this(tmp_path, monkeypatch):
    """Containers may share a host's name and a folder, and number their processes from 1."""
    machine_id.cache_clear()
    monkeypatch.setattr(os, "readlink", lambda path: "pid:[1]")
    theirs = tmp_path / temporary_name("writer").replace(f".{os.getpid()}.", ".999999999.")
    monkeypatch.undo()
    machine_id.cache_clear()
    theirs.touch()
    remove_abandoned(tmp_path)
    assert theirs.exists()


def test_a_target_that_is_no_file(tmp_path):
    with pytest.raises(FadeoutError, match="it is a folder"):
        write_atomically(tmp_path, b"")
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(FadeoutError, match="cannot be written"):
        write_atomically(tmp_path / "file" / "inside", b"")
