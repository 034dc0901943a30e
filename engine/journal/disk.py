"""The Disk port: everything that the journal may ask of a disk, and its real implementation.

A disk is one folder without subfolders. The rules that the journal relies on, and nothing more:

- ``File.write`` and ``File.truncate`` may reach the disk in any order, in part, or never, until ``File.sync``
  has returned; a sector (512 bytes) is written whole or not at all.
- a name made by ``create`` or ``rename``, or taken away by ``remove``, may come undone until
  ``Disk.sync_names`` has returned; each of the three is all or nothing.

``crash_disk.CrashDisk`` is the implementation that does the worst that these rules allow.
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterable
from typing import Final, Protocol

import numpy as np

from .errors import JournalError

SECTOR_BYTES: Final = 512

Buffer = bytes | bytearray | memoryview | np.ndarray


class File(Protocol):
    """An open file. Offsets and sizes in bytes; errors are ``OSError``."""

    def read(self, offset: int, size: int, into: np.ndarray | None = None) -> np.ndarray:
        """Up to ``size`` bytes from ``offset`` as uint8[n]; shorter only at the end of the file.

        ``into``: a buffer that may be used for it (uint8), so that a long walk touches the same memory again.
        """

    def write(self, offset: int, data: Buffer) -> None:
        """Write all of ``data`` at ``offset``."""

    def size(self) -> int: ...

    def truncate(self, size: int) -> None: ...

    def sync(self) -> None:
        """Return when what was written is on the disk (fdatasync)."""

    def close(self) -> None: ...


class Disk(Protocol):
    """A folder of files. Errors are ``OSError``, but for ``lock`` (``JournalError``)."""

    path: str  # as the operator knows the folder, for texts

    def names(self) -> list[str]:
        """All file names, sorted."""

    def create(self, name: str, size: int) -> File:
        """A new file of ``size`` zero bytes whose room is reserved; an older one of this name is replaced."""

    def open(self, name: str) -> File: ...

    def rename(self, old: str, new: str) -> None: ...

    def remove(self, name: str) -> None: ...

    def sync_names(self) -> None:
        """Return when every create, rename and remove is on the disk (fsync of the folder)."""

    def free_bytes(self) -> int: ...

    def lock(self) -> None:
        """Take the folder for this process; ``JournalError("IN_USE")`` when another has it."""

    def unlock(self) -> None: ...


class RealFile:
    """A file descriptor behind the ``File`` port."""

    def __init__(self, fd: int) -> None:
        self.fd = fd

    def read(self, offset: int, size: int, into: np.ndarray | None = None) -> np.ndarray:
        size = max(0, min(size, self.size() - offset))
        data = into[:size] if into is not None and into.size >= size else np.empty(size, np.uint8)
        done = 0
        while done < size:
            n = os.preadv(self.fd, [data.data[done:]], offset + done)
            if n == 0:  # the file became shorter while it was read
                return data[:done]
            done += n
        return data

    def write(self, offset: int, data: Buffer) -> None:
        view = byte_view(data)
        done = 0
        while done < len(view):  # a short write is not an error; the rest either follows or fails
            done += os.pwrite(self.fd, view[done:], offset + done)

    def size(self) -> int:
        return os.fstat(self.fd).st_size

    def truncate(self, size: int) -> None:
        os.ftruncate(self.fd, size)

    def sync(self) -> None:
        os.fdatasync(self.fd)

    def close(self) -> None:
        if self.fd >= 0:
            os.close(self.fd)
            self.fd = -1


class RealDisk:
    """A folder of the file system. It is made when absent, and its name synced in its parent."""

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = os.fspath(path)
        if not os.path.isdir(self.path):
            os.makedirs(self.path, mode=0o750)
            parent = os.open(os.path.dirname(os.path.abspath(self.path)), os.O_RDONLY | os.O_DIRECTORY)
            try:
                os.fsync(parent)
            finally:
                os.close(parent)
        self._folder = os.open(self.path, os.O_RDONLY | os.O_DIRECTORY)

    def _at(self, name: str) -> str:
        assert os.sep not in name and name not in (".", ".."), "a disk has no subfolders"
        return os.path.join(self.path, name)

    def names(self) -> list[str]:
        return sorted(e.name for e in os.scandir(self.path) if e.is_file(follow_symlinks=False))

    def create(self, name: str, size: int) -> RealFile:
        file = RealFile(os.open(self._at(name), os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o640))
        if size:
            try:
                os.posix_fallocate(file.fd, 0, size)
            except OSError:
                file.close()
                raise
        return file

    def open(self, name: str) -> RealFile:
        return RealFile(os.open(self._at(name), os.O_RDWR | os.O_CLOEXEC))

    def rename(self, old: str, new: str) -> None:
        os.rename(self._at(old), self._at(new))

    def remove(self, name: str) -> None:
        os.remove(self._at(name))

    def sync_names(self) -> None:
        os.fsync(self._folder)

    def free_bytes(self) -> int:
        room = os.statvfs(self.path)
        return room.f_bavail * room.f_frsize

    def lock(self) -> None:
        try:
            fcntl.flock(self._folder, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise JournalError("IN_USE", f"the journal folder {self.path} is in use by another process") from None

    def unlock(self) -> None:
        fcntl.flock(self._folder, fcntl.LOCK_UN)

    def close(self) -> None:
        """Give the folder back; the lock goes with it."""
        if self._folder >= 0:
            os.close(self._folder)
            self._folder = -1


def byte_view(buffer: Buffer) -> memoryview:
    """The buffer's bytes; nothing is copied unless an array is not contiguous."""
    view = np.ascontiguousarray(buffer).data if isinstance(buffer, np.ndarray) else memoryview(buffer)
    return view.cast("B")


def joined(buffers: Buffer | Iterable[Buffer]) -> list[memoryview]:
    """One buffer, or several in order, as byte views."""
    if isinstance(buffers, (bytes, bytearray, memoryview, np.ndarray)):
        return [byte_view(buffers)]
    return [byte_view(b) for b in buffers]
