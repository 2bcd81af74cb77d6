"""Files that are there whole or not at all."""

import errno
import os
import platform
import re
import secrets
import shutil
import threading
from collections.abc import Iterable
from pathlib import Path

try:
    import fcntl
except ImportError:  # Windows, where nothing is swept
    fcntl = None

_LEFT_OVER = re.compile(r"\..+\.partial-(?P<node>.*?)-(?P<pid>\d+)(-\d+-[0-9a-f]{8})?")
_LONGEST = 100


def write_atomically(path: Path, chunks: Iterable[bytes | memoryview]) -> None:
    """Writes a file so that whoever opens `path`, at any time and after any accident, finds the old content or the new, whole.

    A file beside it is written, flushed to the disk and renamed. Its name belongs to this call alone, so of several threads, processes or
    containers that write to one path the last one wins. A symbolic link is followed, and a file that is replaced hands on its permissions.

    A killed process leaves the file that it was writing. The next call in the folder removes it: on the same machine, once its process is
    gone and its lock, which the system releases, is free. A process in another container has the lock, though its number says nothing here.

    Args:
        path: the file; folders that are missing are made.
        chunks: its content.

    Raises:
        OSError: if the disk is full or not to be written on; what stood there before is as it was.
    """
    target = Path(os.path.realpath(path))
    partial: Path | None = None
    handle: int | None = None
    try:
        _check(target)
        target.parent.mkdir(parents=True, exist_ok=True)
        _sweep(target.parent)
        partial, handle = _create(target)
        _write(handle, chunks)
        if target.exists():
            shutil.copymode(target, partial)
        if fcntl is None:  # an open file cannot be renamed
            os.close(handle)
            handle = None
        os.replace(partial, target)
        _flush_folder(target.parent)
    except OSError as error:
        reason = f"{error.strerror}. The file was not written, and what stood there before is as it was"
        raise OSError(error.errno, reason, str(path)) from error
    finally:
        if handle is not None:
            os.close(handle)
        if partial is not None:
            partial.unlink(missing_ok=True)


def _check(target: Path) -> None:
    """An error for what no file can take the place of."""
    if target.is_symlink():
        raise OSError(errno.ELOOP, os.strerror(errno.ELOOP))
    if target.exists() and not target.is_file():
        raise OSError(errno.EISDIR, os.strerror(errno.EISDIR)) if target.is_dir() else OSError(errno.EINVAL, "It is a device, not a file")


def _create(target: Path) -> tuple[Path, int]:
    """A new, empty file beside the target, and its handle, which holds its lock."""
    while True:
        own = f"{platform.node()}-{os.getpid()}-{threading.get_ident()}-{secrets.token_hex(4)}"
        start = os.fsdecode(os.fsencode(target.name)[:_LONGEST])  # of a long name the whole would be too long
        partial = target.with_name(f".{start}.partial-{own}")
        handle = os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_BINARY", 0), 0o666)
        if fcntl is None or not _lock(handle, wait=True) or os.fstat(handle).st_nlink:
            return partial, handle
        os.close(handle)  # another process took it for a left-over before it had its lock


def _write(handle: int, chunks: Iterable[bytes | memoryview]) -> None:
    for chunk in chunks:
        rest = memoryview(chunk)
        while rest:
            rest = rest[os.write(handle, rest) :]
    os.fsync(handle)


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
    for path in folder.iterdir() if fcntl is not None else ():
        found = _LEFT_OVER.fullmatch(path.name)
        if found and found["node"] == platform.node() and not _runs(int(found["pid"])):
            _remove_unlocked(path)


def _remove_unlocked(path: Path) -> None:
    """Removes a file, unless a process holds its lock."""
    try:
        handle = os.open(path, os.O_RDWR)
    except OSError:  # it is gone, or somebody else's
        return
    try:
        if _lock(handle, wait=False):
            path.unlink(missing_ok=True)
    finally:
        os.close(handle)


def _lock(handle: int, *, wait: bool) -> bool:
    """Whether the lock was taken; not where another process has it, or where the file system has no locks."""
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))  # type: ignore[union-attr]
    except OSError:
        return False
    return True


def _runs(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except PermissionError:
        return True
    except (ProcessLookupError, OverflowError):
        return False
    return True
