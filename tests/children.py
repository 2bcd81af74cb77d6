"""Child processes for tests, forked from a process that has imported torch: it is imported once for all of them.

That process runs no threads and has drawn no numbers, unlike the one of the tests, which may therefore not be forked itself.
"""

import multiprocessing
import socket
import sys
import traceback
from collections.abc import Callable
from multiprocessing.connection import Connection
from typing import Any

import torch.multiprocessing

_IMPORTED = (
    "pytest",
    "torch.distributed.checkpoint",
    "torch.distributed.fsdp",
    "lightning.pytorch",
    "matplotlib.figure",
    "pixyz.distributions",
    "pixyz.models.lightning",
)
_FORKED = multiprocessing.get_context("forkserver")
_FORKED.set_forkserver_preload([*_IMPORTED])


def import_beforehand(*names: str) -> None:
    """Has more modules imported once for all child processes; before the first of them."""
    _FORKED.set_forkserver_preload([*_IMPORTED, *names])


def start(function: Callable[..., Any], *arguments: Any) -> multiprocessing.process.BaseProcess:
    """A child process that calls the function, which a module must define."""
    process = _FORKED.Process(target=function, args=arguments)
    process.start()
    return process


def result_of(function: Callable[..., Any], *arguments: Any) -> Any:
    """What the function returns in a child process.

    Raises:
        RuntimeError: with the child's traceback, if the function raises.
    """
    ours, theirs = _FORKED.Pipe(duplex=False)
    process = start(_answer, theirs, function, *arguments)
    theirs.close()
    try:
        result, failure = ours.recv()
    except EOFError:
        result, failure = None, "it ended without a result"
    process.join()
    if failure:
        raise RuntimeError(f"the child process failed with exit code {process.exitcode}: {failure}")
    return result


def _answer(connection: Connection, function: Callable[..., Any], *arguments: Any) -> None:
    torch.set_num_threads(1)
    try:
        connection.send((function(*arguments), None))
    except BaseException:
        connection.send((None, traceback.format_exc()))
        raise


def run_group(function: Callable[..., Any], processes: int, *arguments: Any) -> None:
    """Calls the function in several child processes, each with its rank and a free port before the arguments, and waits for them."""
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        port = s.getsockname()[1]
    torch.multiprocessing.start_processes(function, (port, *arguments), nprocs=processes, start_method="forkserver")


def forget(*packages: str) -> None:
    """Has the next import of these packages read their files again; for a child process."""
    for name in [name for name in sys.modules if name.split(".")[0] in packages]:
        del sys.modules[name]
