"""Files are written whole or not at all, whatever fails; what killed processes have left is deleted."""

import errno
import os
from pathlib import Path

import pytest

from tui_gru.disk import OLD, Flusher, GrowingFile, save_bytes, saving, sweep


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def failing(monkeypatch, name, number=errno.EIO):
    def fail(*arguments, **options):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(f"tui_gru.disk.os.{name}", fail)


@pytest.mark.parametrize("call", ["fsync", "replace"])
@pytest.mark.parametrize("number", [errno.EIO, errno.ENOSPC, errno.EACCES], ids=errno.errorcode.get)
def test_a_file_stays_as_it_was_if_its_new_contents_cannot_be_written(tmp_path, monkeypatch, call, number):
    path = tmp_path / "walk.html"
    path.write_text("old")
    with monkeypatch.context() as patched:
        failing(patched, call, number)
        with pytest.raises(OSError, match=os.strerror(number)):
            save_bytes(path, b"new")
    assert (names(tmp_path), path.read_text()) == (["walk.html"], "old")


@pytest.mark.parametrize("overwrite", [True, False])
def test_an_error_while_it_is_written_leaves_nothing(tmp_path, overwrite):
    def write():
        with saving(tmp_path / "walk.html", overwrite=overwrite) as file:
            file.write(b"half")
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        write()
    assert names(tmp_path) == []


def test_a_disk_that_does_not_flush_is_no_error(tmp_path, monkeypatch):
    failing(monkeypatch, "fsync", errno.EINVAL)
    save_bytes(tmp_path / "walk.html", b"new")
    assert (tmp_path / "walk.html").read_bytes() == b"new"


@pytest.mark.parametrize("has_links", [True, False])
def test_a_file_is_not_overwritten_unasked(tmp_path, monkeypatch, has_links):
    if not has_links:
        failing(monkeypatch, "link", errno.EPERM)
    path = tmp_path / "walk.html"
    save_bytes(path, b"first", overwrite=False)
    with pytest.raises(FileExistsError):
        save_bytes(path, b"second", overwrite=False)
    other = tmp_path / "other.html"
    file = saving(other, overwrite=False)
    file.__enter__().write(b"ours")
    other.write_text("created meanwhile")
    with pytest.raises(FileExistsError):
        file.__exit__(None, None, None)
    assert (names(tmp_path), path.read_bytes(), other.read_text()) == (["other.html", "walk.html"], b"first", "created meanwhile")


def test_a_link_stays_and_permissions_as_well(tmp_path):
    path, link = tmp_path / "walk.html", tmp_path / "link.html"
    path.write_text("old")
    path.chmod(0o640)
    link.symlink_to(path)
    save_bytes(link, b"new")
    assert (link.is_symlink(), path.read_bytes(), path.stat().st_mode & 0o777) == (True, b"new", 0o640)
    save_bytes(Path(os.devnull), b"new")
    assert not Path(os.devnull).is_file()


@pytest.mark.parametrize(
    "name",
    [".0123456789abcdef.tui-gru-saving", ".0123456789abcdef.tui-gru-saving-compact", "step-00000003.rank0.safetensors.part"],
)
def test_what_killed_processes_have_left_is_deleted_after_an_hour(tmp_path, name):
    (tmp_path / name).write_text("half")
    (tmp_path / "my.tui-gru-saving").write_text("of somebody else")
    now = (tmp_path / name).stat().st_mtime
    sweep(tmp_path)
    assert name in names(tmp_path)
    for path in tmp_path.iterdir():
        os.utime(path, (now - OLD - 1, now - OLD - 1))
    save_bytes(tmp_path / "walk.html", b"new")
    assert names(tmp_path) == ["my.tui-gru-saving", "walk.html"]


def test_without_a_thread_changes_are_flushed_when_they_must_be(tmp_path, monkeypatch):
    def refuse(timer):
        raise RuntimeError("can't create new thread at interpreter shutdown")

    flushed = []
    monkeypatch.setattr("threading.Timer.start", refuse)
    monkeypatch.setattr("tui_gru.disk.os.fsync", lambda handle: flushed.append(os.fstat(handle).st_ino))
    (tmp_path / "lines").touch()
    flusher = Flusher()
    flusher.soon(tmp_path / "lines")
    assert flushed == []
    flusher.now()
    assert flushed == [(tmp_path / "lines").stat().st_ino]


def test_changes_are_flushed_soon_or_now_and_an_error_is_kept(tmp_path, monkeypatch):
    flushed = []
    monkeypatch.setattr("tui_gru.disk.os.fsync", lambda handle: flushed.append(os.fstat(handle).st_ino))
    monkeypatch.setattr("tui_gru.disk.SOON", 0.0)
    file, flusher = GrowingFile(tmp_path / "lines"), Flusher()
    file.append(b"a\n")
    flusher.soon(file.path)
    flusher.soon(tmp_path)
    flusher.soon(tmp_path / "deleted since")
    flusher.now()
    assert set(flushed) == {file.path.stat().st_ino, tmp_path.stat().st_ino}
    assert flusher.failure is None
    failing(monkeypatch, "fsync")
    flusher.soon(file.path)
    flusher.now()
    assert flusher.failure.errno == errno.EIO
    file.close()
