"""A hook of mkdocs: pages show kept results (see `kept_results.py`). A build makes those that are missing, and fails if some are stale.

Programs whose packages have changed since run for one epoch, in another process while the pages are built. `mkdocs serve` leaves that out.
"""

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import kept_results
from mkdocs.exceptions import PluginError
from mkdocs.plugins import get_plugin_logger

log = get_plugin_logger(__name__)
RUN = (sys.executable, str(Path(__file__).with_name("run_programs.py")))

# The allocator of glibc would give large tensors back and ask for them again, a third of the CPU time of some programs.
KEEP_MEMORY = {"MALLOC_TRIM_THRESHOLD_": "2000000000", "MALLOC_MMAP_THRESHOLD_": "1000000000"}


class Build:
    """The state of the running build."""

    is_served = False
    older: dict[Path, kept_results.Program] = {}
    smoke: subprocess.Popen[str] | None = None


def on_startup(command: str, dirty: bool) -> None:
    Build.is_served = command == "serve"


def on_pre_build(config: Any) -> None:
    """Makes missing results, looks for stale ones, and starts the programs that run for one epoch."""
    programs = kept_results.programs(Path(config.docs_dir)).values()
    missing = [program.name for program in programs if kept_results.is_missing(program)]
    if missing:
        log.info("Programs whose results are not kept yet: %s", ", ".join(missing))
        ran = subprocess.run([*RUN, "--keep", *missing], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False)
        if ran.returncode:
            raise PluginError(f"Programs of pages fail:\n{ran.stdout}")
    stale = [program.name for program in programs if kept_results.is_stale(program)]
    if stale and not Build.is_served:
        raise PluginError(kept_results.stale_message(stale))
    if stale:
        log.warning(kept_results.stale_message(stale))
    Build.older = {program.page: program for program in programs if program.name not in stale and kept_results.is_older(program)}
    if Build.older and not Build.is_served:
        names = [program.name for program in Build.older.values()]
        log.info("One epoch of the programs whose packages have changed: %s", ", ".join(names))
        command = [*RUN, "--smoke", "--at-once", "1", *names]  # beside the process that builds the pages
        Build.smoke = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=os.environ | KEEP_MEMORY)


def on_page_markdown(markdown: str, page: Any, config: Any, files: Any) -> str:
    """Says below the first result on a page which commit it is of, if packages have changed since."""
    program = Build.older.get(Path(page.file.abs_src_path))
    if program is None:
        return markdown
    end = markdown.index("\n\n", markdown.index(f"kept/{program.name}/"))
    return f"{markdown[:end]}\n\n{kept_results.note(program)}{markdown[end:]}"


def on_post_build(config: Any) -> None:
    """Waits for the programs that run for one epoch."""
    if Build.smoke is not None:
        printed, _ = Build.smoke.communicate()
        code, Build.smoke = Build.smoke.returncode, None
        if code:
            raise PluginError(f"Programs of pages fail:\n{printed}")
        log.info("They run:\n%s", printed)


def on_build_error(error: Exception) -> None:
    if Build.smoke is not None:
        Build.smoke.terminate()
