"""What holds in a process in which nothing has been evaluated yet: one that has just imported the library."""

import json
import os
import subprocess
import sys

import fresh


def test_a_fresh_process():
    """One process for all checks; each compiles, or prints, as the first thing that it does."""
    paths = os.pathsep.join(p for p in sys.path if p)
    environment = {**os.environ, "PYTHONPATH": paths, "PYTHONHASHSEED": "1", "TORCHINDUCTOR_COMPILE_THREADS": "1"}
    done = subprocess.run([sys.executable, fresh.__file__], capture_output=True, text=True, env=environment, check=False)
    assert done.returncode == 0, done.stderr
    errors = json.loads(done.stdout)
    assert list(errors) == [check.__name__ for check in fresh.CHECKS]
    assert not any(errors.values()), "\n".join(errors.values())


def test_the_order_written_is_the_order_printed():
    """Here under another seed of Python's hashes than in the fresh process."""
    fresh.the_order_written_is_the_order_printed()
