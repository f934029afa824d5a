"""Files that are whole or not there."""

import pytest

from fadeout.files import write_whole
from fadeout.registry import FadeoutError


def test_what_was_there_stays_until_the_new_file_is_whole(tmp_path, monkeypatch):
    path = tmp_path / "deep" / "page.html"
    assert write_whole(path, b"old").read_bytes() == b"old"

    def full(self, content):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("pathlib.Path.write_bytes", full)
    with pytest.raises(FadeoutError, match=r"page\.html cannot be written: No space left"):
        write_whole(path, b"new")
    assert path.read_bytes() == b"old"
    assert [p.name for p in path.parent.iterdir()] == ["page.html"]


def test_a_target_that_is_no_file(tmp_path):
    with pytest.raises(FadeoutError, match="it is a folder"):
        write_whole(tmp_path, b"")
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(FadeoutError, match="cannot be written"):
        write_whole(tmp_path / "file" / "inside", b"")
