"""A hook of mkdocs: the programs that pages show are run before the pages are built, several at a time, one thread each.

A page says in its head what it runs, `runs: docs/gallery/gmm.py --out out/site/gmm`, or a list of such lines, one after the other. What
they print is then in `out/site/gmm.txt`, named after the page.
"""

import os
import shlex
import shutil
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from mkdocs.exceptions import PluginError
from mkdocs.utils.meta import get_data

OUT = Path("out/site")
LIMIT = 600
"""Seconds for a program."""


def on_pre_build(config: Any) -> None:
    """Runs them all."""
    pages = {path: get_data(path.read_text("utf-8"))[1].get("runs") for path in sorted(Path(config.docs_dir).rglob("*.md"))}
    jobs = {path: [runs] if isinstance(runs, str) else runs for path, runs in pages.items() if runs}
    shutil.rmtree(OUT, ignore_errors=True)
    OUT.mkdir(parents=True)
    with ThreadPoolExecutor(max_workers=2) as pool:
        for page, text, seconds in pool.map(_run, jobs, jobs.values()):
            (OUT / f"{page.stem}.txt").write_text(text, "utf-8")
            print(f"{page.stem}: {seconds:.0f} s", flush=True)


def _run(page: Path, runs: list[str]) -> tuple[Path, str, float]:
    start, printed = time.monotonic(), []
    for line in runs:
        try:
            done = subprocess.run(
                [sys.executable, *shlex.split(line)],
                capture_output=True,
                text=True,
                check=True,
                timeout=LIMIT,
                env={**os.environ, "OMP_NUM_THREADS": "1"},
            )
        except subprocess.CalledProcessError as error:
            raise PluginError(f"{page}: {line} has failed:\n{error.stderr[-4000:]}") from error
        except subprocess.TimeoutExpired as error:
            raise PluginError(f"{page}: {line} takes more than {LIMIT} seconds.") from error
        printed.append(done.stdout)
    return page, "\n".join(printed), time.monotonic() - start
