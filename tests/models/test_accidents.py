"""Accidents while a checkpoint is written leave the one of before: a full disk, a limit, a process that is killed."""

import os
import platform
import re
import resource
import signal
import subprocess
import sys
import time

import pytest
import torch
from checkpointed import steps, vae
from children import result_of
from torch import nn

from pixyz.distributions import Normal
from pixyz.models import ML


def files(folder):
    return sorted(path.name for path in folder.iterdir())


@pytest.mark.parametrize("call", ["write", "fsync", "replace"])
def test_a_full_disk_leaves_the_previous_checkpoint(call, tmp_path, monkeypatch):
    model = vae()
    path = model.save(tmp_path / "a")
    before = path.read_bytes()
    steps(model, 1)
    calls = []

    def full(*args):
        calls.append(args)
        if call == "write" and len(calls) < 4:
            return original(args[0], bytes(args[1])[:50])  # a write may be short
        raise OSError(28, "No space left on device")

    original = getattr(os, call)
    monkeypatch.setattr(os, call, full)
    with pytest.raises(
        OSError, match=r"No space left on device\. The file was not written, and what stood there before is as it was: '.*a'"
    ):
        model.save(path)
    monkeypatch.undo()
    assert path.read_bytes() == before
    assert files(tmp_path) == ["a"]


def save_under_a_limit(path):
    """What a second save says, and how many steps the file has afterwards."""
    model = ML(Normal("p(x|z)", loc=nn.Linear(99, 99), scale=1.0))
    model.save(path)
    resource.setrlimit(resource.RLIMIT_FSIZE, (9999, 9999))
    model.step_count = 7
    with pytest.raises(OSError) as caught:
        model.save(path)
    return str(caught.value), model.load(path).step_count


def test_a_file_that_may_not_grow_leaves_the_previous_checkpoint(tmp_path):
    """The same, by the operating system."""
    said, step_count = result_of(save_under_a_limit, tmp_path / "a")
    assert re.match(r"\[Errno 27\] File too large\. The file was not written, ", said)
    assert step_count == 0
    assert files(tmp_path) == ["a"]


STAGES = ["write", "fsync", "replace", "close"]
"""The calls of the operating system in the middle of which a process is killed: the last comes after the file was renamed."""


def save_until_killed(model, path, pipe, stage):
    """Saves one step after another, and waits to be killed in the third save, in the middle of a call, if there is a stage."""
    write, replaced = os.write, []

    def wait():
        write(pipe, b"!")
        while True:
            signal.pause()

    def interrupted(*args):
        if model.step_count == 3 and (stage != "close" or replaced):
            if stage == "write":
                write(args[0], bytes(args[1])[: len(args[1]) // 2])
            wait()
        return original(*args)

    def replace(*args):
        original_replace(*args)
        replaced.append(args)

    original, original_replace = getattr(os, stage or "write"), os.replace
    if stage == "close":
        os.replace = replace
    if stage:
        setattr(os, stage, interrupted)
    while True:
        model.step_count += 1
        replaced.clear()
        with torch.no_grad():
            for w in model.trained_parameters:
                w.fill_(model.step_count)
        model.save(path)
        write(pipe, b".")


def kill_while_saving(path):
    """Of each kill: what stage, how many saves were done, the steps of the file, whether it is of one piece, how many files there are."""
    found = []
    for number, stage in enumerate([*STAGES, None, None, None, None]):
        model = ML(Normal("p(x|z)", loc=nn.Linear(1000, 1000), scale=1.0))
        ours, theirs = os.pipe()
        child = os.fork()
        if not child:
            save_until_killed(model, path, theirs, stage)
        os.close(theirs)
        told = b""
        while (b"!" not in told) if stage else len(told) < 3:
            more = os.read(ours, 1)
            assert more, "the child is gone"
            told += more
        if not stage:
            time.sleep(0.002 * number)  # somewhere in the next save, or the one after
        os.kill(child, signal.SIGKILL)
        while more := os.read(ours, 99):
            told += more
        os.waitpid(child, 0)
        step_count = model.load(path).step_count
        whole = all([bool((w == step_count).all()) for w in model.trained_parameters])
        found.append((stage, told.count(b"."), step_count, whole, len(files(path.parent))))
    model.save(path)
    return found


def test_a_process_that_is_killed_while_saving_leaves_a_whole_checkpoint(tmp_path):
    """Linux only: the processes are forked."""
    found = result_of(kill_while_saving, tmp_path / "a")
    for stage, saved, step_count, whole, count in found:
        assert whole
        assert step_count - saved in {"close": (1,), None: (0, 1)}.get(stage, (0,))
        assert count in {"close": (1,), None: (1, 2)}.get(stage, (2,))
    assert [stage for stage, *_ in found] == [*STAGES, None, None, None, None]
    assert files(tmp_path) == ["a"]  # what the killed ones had begun is gone


def test_the_unfinished_files_of_other_machines_and_living_processes_stay(tmp_path):
    node = platform.node()
    names = [".b.partial-elsewhere-1", f".b.partial-{node}-{os.getppid()}", "partial", ".partial-x"]
    for name in names:
        (tmp_path / name).write_bytes(b"")
    done = subprocess.Popen([sys.executable, "-c", ""])
    done.wait()
    (tmp_path / f".b.partial-{node}-{done.pid}").write_bytes(b"")
    vae().save(tmp_path / "a")
    assert files(tmp_path) == sorted(["a", *names])
