"""Files that are there whole or not at all."""

import os
import platform
import re
from collections.abc import Iterable
from pathlib import Path

_LEFT_OVER = re.compile(r"\..+\.partial-(?P<node>.*)-(?P<pid>\d+)")


def write_atomically(path: Path, chunks: Iterable[bytes | memoryview]) -> None:
    """Writes a file so that whoever opens `path`, at any time and after any accident, finds the old content or the new, whole.

    A file beside it is written, flushed to the disk and renamed. What a killed process has left of such a file is removed by the next.

    Args:
        path: the file; folders that are missing are made.
        chunks: its content.

    Raises:
        OSError: if the disk is full or not to be written on; what stood there before is as it was.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    _sweep(path.parent)
    partial = path.with_name(f".{path.name}.partial-{platform.node()}-{os.getpid()}")
    try:
        _write(partial, chunks)
        os.replace(partial, path)
        _flush_folder(path.parent)
    except OSError as error:
        reason = f"{error.strerror}. The file was not written, and what stood there before is as it was"
        raise OSError(error.errno, reason, str(path)) from error
    finally:
        partial.unlink(missing_ok=True)


def _write(path: Path, chunks: Iterable[bytes | memoryview]) -> None:
    handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | getattr(os, "O_BINARY", 0), 0o666)
    try:
        for chunk in chunks:
            rest = memoryview(chunk)
            while rest:
                rest = rest[os.write(handle, rest) :]
        os.fsync(handle)
    finally:
        os.close(handle)


def _flush_folder(folder: Path) -> None:
    """The name, too, is on the disk; Windows has no such call."""
    if os.name == "posix":
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


def _sweep(folder: Path) -> None:
    """Removes what killed processes of this machine have left; those of others may be at work."""
    for path in folder.iterdir() if os.name == "posix" else ():
        found = _LEFT_OVER.fullmatch(path.name)
        if found and found["node"] == platform.node() and not _runs(int(found["pid"])):
            path.unlink(missing_ok=True)


def _runs(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except PermissionError:
        return True
    except (ProcessLookupError, OverflowError):
        return False
    return True
