"""Files are whole or not there, also where several threads and containers write to one path, and where the path is a link."""

import fcntl
import os
import stat
import subprocess
import sys
import threading
import time

import pytest
import torch
from matplotlib.image import imread
from torch import nn

from pixyz.distributions import Normal
from pixyz.models import ML, _atomic, plot_history

NODE = _atomic.platform.node()


def model(number=0.0):
    return ML(Normal("p(x)", loc=nn.Parameter(torch.full((5_000,), number)), scale=1.0))


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def test_of_several_threads_that_save_to_one_path_one_file_is_left_whole(tmp_path):
    path, writers, errors, torn = tmp_path / "a", 2, [], []
    start = threading.Barrier(writers + 1)

    def write(number):
        mine = model(float(number))
        start.wait()
        for _ in range(5):
            try:
                mine.save(path)
            except OSError as error:
                errors.append(error)

    threads = [threading.Thread(target=write, args=[n]) for n in range(1, writers + 1)]
    for thread in threads:
        thread.start()
    reader = model()
    reader.save(path)
    start.wait()
    while any([thread.is_alive() for thread in threads]):
        reader.load(path)
        loc = reader.p.loc
        if not bool((loc == loc[0]).all()):
            torn.append(loc.detach().clone())
        time.sleep(0.005)
    for thread in threads:
        thread.join()
    assert not errors
    assert not torn
    reader.load(path)
    assert 1 <= reader.p.loc[0] <= writers
    assert names(tmp_path) == ["a"]


def test_of_several_threads_that_save_one_picture_one_is_left_whole(tmp_path):
    path, errors = tmp_path / "curve.png", []

    def draw(length):
        try:
            for _ in range(2):
                plot_history({"loss": [float(n) for n in range(length)]}, path=path)
        except Exception as error:
            errors.append(error)

    threads = [threading.Thread(target=draw, args=[n]) for n in (3, 300)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not errors
    assert imread(path).std() > 0
    assert names(tmp_path) == ["curve.png"]


def test_the_unfinished_file_has_a_name_for_each_call(tmp_path, monkeypatch):
    made = []
    original = _atomic._create
    monkeypatch.setattr(_atomic, "_create", lambda target: made.append(original(target)) or made[-1])
    for _ in range(2):
        _atomic.write_atomically(tmp_path / ("ä" * 120), [b"x"])
    (first, _), (second, _) = made
    assert first != second
    assert f"-{os.getpid()}-{threading.get_ident()}-" in first.name
    assert _atomic._LEFT_OVER.fullmatch(first.name)["pid"] == str(os.getpid())
    assert names(tmp_path) == ["ä" * 120]


def dead():
    """The number of a process that is gone."""
    done = subprocess.run([sys.executable, "-c", "import os; print(os.getpid())"], capture_output=True, text=True, timeout=200)
    return int(done.stdout)


def test_the_unfinished_file_of_another_container_stays_while_it_is_locked(tmp_path):
    """Its process has a number that says nothing here, and perhaps the same host's name."""
    path = tmp_path / f".b.partial-{NODE}-{dead()}-140000000000000-0123abcd"
    with path.open("wb") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        _atomic.write_atomically(tmp_path / "a", [b"x"])
        assert names(tmp_path) == sorted(["a", path.name])
    _atomic.write_atomically(tmp_path / "a", [b"x"])  # the lock is gone, as of a killed process
    assert names(tmp_path) == ["a"]


def test_a_file_that_was_swept_before_it_had_its_lock_is_made_anew(tmp_path, monkeypatch):
    original, calls = _atomic._lock, []

    def swept_first(handle, *, wait):
        if not calls:
            next(tmp_path.glob(".a.partial-*")).unlink()
        calls.append(handle)
        return original(handle, wait=wait)

    monkeypatch.setattr(_atomic, "_lock", swept_first)
    _atomic.write_atomically(tmp_path / "a", [b"x"])
    assert len(calls) == 2
    assert (tmp_path / "a").read_bytes() == b"x"
    assert names(tmp_path) == ["a"]


@pytest.mark.parametrize("exists", [True, False], ids=["to a file", "to nothing yet"])
def test_a_symbolic_link_is_followed(exists, tmp_path):
    disk, link = tmp_path / "disk", tmp_path / "runs" / "latest"
    disk.mkdir()
    link.parent.mkdir()
    link.symlink_to("../disk/model")
    if exists:
        model(1.0).save(disk / "model")
    model(2.0).save(link)
    assert link.is_symlink()
    found = model()
    found.load(disk / "model")
    assert found.p.loc[0] == 2
    assert names(disk) == ["model"]
    assert names(link.parent) == ["latest"]


def test_a_link_to_itself_and_a_device_are_refused(tmp_path):
    loop = tmp_path / "a"
    loop.symlink_to(loop)
    with pytest.raises(OSError, match=r"The file was not written, and what stood there before is as it was: .*a'"):
        model().save(loop)
    assert loop.is_symlink()
    os.mkfifo(tmp_path / "b")
    with pytest.raises(OSError, match=r"It is a device, not a file\. The file was not written"):
        model().save(tmp_path / "b")
    assert stat.S_ISFIFO((tmp_path / "b").stat().st_mode)
    with pytest.raises(IsADirectoryError):
        model().save(tmp_path)


def test_a_file_that_is_replaced_hands_on_its_permissions(tmp_path):
    path = model().save(tmp_path / "a")
    path.chmod(0o600)
    model().save(path)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
