"""A disk in memory that crashes as badly as the ``Disk`` port's rules allow.

What was written and not synced is kept, dropped, reordered or torn at a sector, in any subset; a create, rename
or remove that was not synced may come undone; a sync that fails leaves pages that can be read and will never be
written. All choices come from ``choose(n) -> 0 .. n-1``, which the caller seeds: there is no randomness here.

Two kinds of end: ``copy`` is what a killed process leaves (the kernel's memory lives on, nothing is lost yet),
``power_cut`` what is on the disk after the machine went dark.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Callable

import numpy as np

from .disk import SECTOR_BYTES, Buffer, byte_view
from .errors import JournalError

Choose = Callable[[int], int]
_ROOM_BYTES = 1 << 40


class _Node:
    """A file's content: ``live`` as programs see it, ``durable`` as on the disk, ``pending`` what lies between.

    ``pending`` holds (offset, bytes) for a write and (size, None) for a change of size, in order.
    """

    __slots__ = ("durable", "live", "pending")

    def __init__(self, content: bytes) -> None:
        self.live = bytearray(content)
        self.durable = content
        self.pending: list[tuple[int, bytes | None]] = []

    def copy(self) -> _Node:
        twin = _Node(self.durable)
        twin.live = bytearray(self.live)
        twin.pending = list(self.pending)
        return twin

    def sync(self) -> None:
        if self.pending:
            self.durable = bytes(self.live)
            self.pending.clear()

    def image(self, choose: Choose) -> bytes:
        """What a power cut leaves of this file."""
        if not self.pending:
            return self.durable
        manner = choose(4)
        if manner == 0:
            return self.durable
        if manner == 1:
            return bytes(self.live)
        if manner == 2:
            return self._after(choose(len(self.pending) + 1), lambda _: True)
        return self._torn(choose)

    def _after(self, count: int, kept: Callable[[int], bool]) -> bytes:
        """The first ``count`` pending operations applied, of each write only the sectors that are ``kept``."""
        content = bytearray(self.durable)
        for place, data in self.pending[:count]:
            if data is None:
                _resize(content, place)
                continue
            end = place + len(data)
            if len(content) < end:
                _resize(content, end)
            at = place
            while at < end:
                sector = at // SECTOR_BYTES
                stop = min(end, (sector + 1) * SECTOR_BYTES)
                if kept(sector):
                    content[at:stop] = data[at - place : stop - place]
                at = stop
        return bytes(content)

    def _torn(self, choose: Choose) -> bytes:
        """Each sector is on the disk as of some moment of its own; so is the size."""
        versions: dict[int, int] = {}
        count = len(self.pending)
        sizes = [len(self.durable)]
        content = bytearray(self.durable)
        for number, (place, data) in enumerate(self.pending):
            end = place if data is None else max(sizes[-1], place + len(data))
            sizes.append(end)
            if data is None:
                continue
            if len(content) < place + len(data):
                _resize(content, place + len(data))
            at = place
            while at < place + len(data):
                sector = at // SECTOR_BYTES
                stop = min(place + len(data), (sector + 1) * SECTOR_BYTES)
                if sector not in versions:
                    versions[sector] = choose(count + 1)
                if number < versions[sector]:
                    content[at:stop] = data[at - place : stop - place]
                at = stop
        _resize(content, sizes[choose(len(sizes))])
        return bytes(content)


def _resize(content: bytearray, size: int) -> None:
    if len(content) > size:
        del content[size:]
    else:
        content.extend(bytes(size - len(content)))


class CrashFile:
    """The ``File`` port on a node of a crash disk."""

    def __init__(self, disk: CrashDisk, node: _Node) -> None:
        self._disk = disk
        self._node = node

    def read(self, offset: int, size: int, into: np.ndarray | None = None) -> np.ndarray:
        return np.frombuffer(bytes(self._node.live[offset : offset + size]), np.uint8)

    def write(self, offset: int, data: Buffer) -> None:
        self._disk.before("write")
        content = byte_view(data).tobytes()
        if len(self._node.live) < offset + len(content):
            _resize(self._node.live, offset + len(content))
        self._node.live[offset : offset + len(content)] = content
        self._node.pending.append((offset, content))

    def size(self) -> int:
        return len(self._node.live)

    def truncate(self, size: int) -> None:
        self._disk.before("truncate")
        _resize(self._node.live, size)
        self._node.pending.append((size, None))

    def sync(self) -> None:
        self._disk.before("sync")
        if self._disk.fails_now("sync"):
            # The kernel reports the error once and takes the pages for clean: readable, and never written.
            self._node.durable = self._node.image(self._disk.choose_failure)
            self._node.pending.clear()
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        self._node.sync()

    def close(self) -> None:
        pass


class CrashDisk:
    """The ``Disk`` port in memory. ``observe(operation)`` is called before every change and every sync.

    ``fail`` names an operation and the occurrence (from 1) at which it reports EIO; ``room_bytes`` is what
    ``create`` may still reserve before ENOSPC.
    """

    path = "JOURNAL"

    def __init__(self, choose_failure: Choose = lambda n: 0) -> None:
        self._names: dict[str, _Node] = {}
        self._durable_names: dict[str, _Node] = {}
        self._pending: list[dict[str, _Node | None]] = []
        self._locked = False
        self.observe: Callable[[str], None] | None = None
        self.operations = 0
        self.fail: tuple[str, int] | None = None
        self.choose_failure = choose_failure
        self.room_bytes = _ROOM_BYTES

    def before(self, operation: str) -> None:
        self.operations += 1
        if self.observe is not None:
            self.observe(operation)

    def fails_now(self, operation: str) -> bool:
        """Whether the planned failure is due at this occurrence of ``operation``."""
        if self.fail is None or self.fail[0] != operation:
            return False
        self.fail = (operation, self.fail[1] - 1)
        return self.fail[1] == 0

    # The port

    def names(self) -> list[str]:
        return sorted(self._names)

    def create(self, name: str, size: int) -> CrashFile:
        self.before("create")
        if size > self.room_bytes:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        self.room_bytes -= size
        node = _Node(b"")
        if size:
            _resize(node.live, size)
            node.pending.append((size, None))
        self._names[name] = node
        self._pending.append({name: node})
        return CrashFile(self, node)

    def open(self, name: str) -> CrashFile:
        if name not in self._names:
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), name)
        return CrashFile(self, self._names[name])

    def rename(self, old: str, new: str) -> None:
        self.before("rename")
        node = self._names.pop(old)
        self._names[new] = node
        self._pending.append({old: None, new: node})

    def remove(self, name: str) -> None:
        self.before("remove")
        self.room_bytes += len(self._names.pop(name).live)
        self._pending.append({name: None})

    def sync_names(self) -> None:
        self.before("sync_names")
        if self.fails_now("sync_names"):
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        self._durable_names = dict(self._names)
        self._pending.clear()

    def free_bytes(self) -> int:
        return self.room_bytes

    def lock(self) -> None:
        if self._locked:
            raise JournalError("IN_USE", "the journal folder is in use by another process")
        self._locked = True

    def unlock(self) -> None:
        self._locked = False

    # What the port's users can't do

    def copy(self) -> CrashDisk:
        """The same disk and the same memory without the process: what a kill leaves. Nothing is lost yet."""
        twin = CrashDisk(self.choose_failure)
        twins: dict[int, _Node] = {}

        def same(node: _Node) -> _Node:
            if id(node) not in twins:
                twins[id(node)] = node.copy()
            return twins[id(node)]

        twin._names = {k: same(v) for k, v in self._names.items()}
        twin._durable_names = {k: same(v) for k, v in self._durable_names.items()}
        twin._pending = [{k: v and same(v) for k, v in change.items()} for change in self._pending]
        twin.room_bytes = self.room_bytes
        return twin

    def power_cut(self, choose: Choose) -> CrashDisk:
        """A disk as the next start finds it, drawn from all that are possible."""
        names = dict(self._durable_names)
        manner = choose(4) if self._pending else 0
        count = choose(len(self._pending) + 1) if manner == 2 else len(self._pending)
        for change in self._pending[:count]:
            if manner == 0 or (manner == 3 and choose(2)):
                continue
            for name, node in change.items():
                if node is None:
                    names.pop(name, None)
                else:
                    names[name] = node
        image = CrashDisk(self.choose_failure)
        made: dict[int, _Node] = {}
        for name, node in names.items():
            if id(node) not in made:
                made[id(node)] = _Node(node.image(choose))
            image._names[name] = made[id(node)]
        image._durable_names = dict(image._names)
        return image

    def content(self, name: str) -> bytearray:
        """A file's bytes, for tests that damage them: what is changed here is on the disk at once."""
        return self._names[name].live

    def put(self, name: str, content: bytes) -> None:
        """Place a file, durable at once."""
        self._names[name] = self._durable_names[name] = _Node(bytes(content))
