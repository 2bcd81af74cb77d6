"""Files are whole or not there, also where several threads and containers write to one path, and where the path is a link."""

import fcntl
import os
import platform
import stat
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
import torch
from matplotlib.image import imread
from torch import nn

from pixyz.distributions import Normal
from pixyz.models import ML, plot_history


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


def dead():
    """The number of a process that is gone."""
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    return process.pid


def test_the_unfinished_file_has_a_name_for_each_call(tmp_path, monkeypatch):
    """It names the process and the thread; what a dead process has left under such a name is removed by the next call."""
    made, original = [], os.replace
    monkeypatch.setattr(os, "replace", lambda source, target: made.append(Path(source).name) or original(source, target))
    path = tmp_path / ("ä" * 120)
    for _ in range(2):
        model().save(path)
    first, second = made
    assert first != second
    mine = f"-{os.getpid()}-{threading.get_ident()}-"
    assert mine in first
    left = tmp_path / first.replace(mine, f"-{dead()}-{threading.get_ident()}-")
    left.write_bytes(b"")
    (tmp_path / first).write_bytes(b"")  # of a process that lives
    model().save(path)
    assert names(tmp_path) == sorted([path.name, first])


def test_the_unfinished_file_of_another_container_stays_while_it_is_locked(tmp_path):
    """Its process has a number that says nothing here, and perhaps the same host's name."""
    path = tmp_path / f".b.partial-{platform.node()}-{dead()}-140000000000000-0123abcd"
    with path.open("wb") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        model().save(tmp_path / "a")
        assert names(tmp_path) == sorted(["a", path.name])
    model().save(tmp_path / "a")  # the lock is gone, as of a killed process
    assert names(tmp_path) == ["a"]


def test_a_file_that_was_swept_before_it_had_its_lock_is_made_anew(tmp_path, monkeypatch):
    original, calls = fcntl.flock, []

    def swept_first(handle, how):
        if not calls:
            next(tmp_path.glob(".a.partial-*")).unlink()
        calls.append(handle)
        return original(handle, how)

    monkeypatch.setattr(fcntl, "flock", swept_first)
    model(2.0).save(tmp_path / "a")
    assert len(calls) == 2
    found = model()
    found.load(tmp_path / "a")
    assert found.p.loc[0] == 2
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
