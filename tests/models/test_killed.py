"""A training process that is killed at random moments, and begun again, ends where one ends that was left alone."""

import random
import signal
import subprocess
import sys
import time
from pathlib import Path

PROGRAM = Path(__file__).with_name("training_that_is_killed.py")


def start(folder):
    return subprocess.Popen([sys.executable, str(PROGRAM), str(folder)], stdout=subprocess.DEVNULL)


def saved(folder):
    return max((int(path.stem.removeprefix("step_")) for path in folder.glob("step_*.safetensors")), default=0)


def test_a_killed_training_ends_as_one_that_was_left_alone(tmp_path, request):
    kills = request.config.getoption("--kills")
    alone, killed = tmp_path / "alone", tmp_path / "killed"
    alone.mkdir()
    killed.mkdir()
    assert start(alone).wait(200) == 0
    last = saved(alone)

    chance = random.Random(kills)
    for kill in range(kills):
        process = start(killed)
        before = saved(killed)
        wanted = before + chance.randint(1, max((last - before) // (kills - kill) - 1, 1))
        while process.poll() is None and saved(killed) < wanted:
            time.sleep(0.001)
        time.sleep(chance.random() * 0.02)  # somewhere in a step, in a save, or between
        process.send_signal(signal.SIGKILL)
        assert process.wait(200) == -signal.SIGKILL, "it ended before it was killed"
        assert before < saved(killed) < last
    assert start(killed).wait(200) == 0
    assert (alone / "final.safetensors").read_bytes() == (killed / "final.safetensors").read_bytes()
