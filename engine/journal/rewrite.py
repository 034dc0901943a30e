"""The operator's two ways out of a refusal: the cut and the migration. Both write a new journal; the old one stays."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from . import scan
from .disk import Disk
from .errors import JournalError
from .group import COMMANDS, Group, decode_group, payload_lengths, seed_of
from .journal import Journal
from .recovery import after
from .segment import SEGMENT_HEADER_BYTES, Identity, SegmentHeader, decode_segment_header, segment_index

COMMIT_BYTES: Final = 4 << 20  # a commit of the copy: few enough syncs, little to buffer


def segment_headers(disk: Disk) -> list[SegmentHeader]:
    """The headers that verify, oldest first."""
    found = []
    for name in disk.names():
        if segment_index(name) is not None:
            file = disk.open(name)
            header = decode_segment_header(file.read(0, SEGMENT_HEADER_BYTES).tobytes())
            file.close()
            if header is not None:
                found.append(header)
    return found


def identity_of(disk: Disk) -> Identity | None:
    """What wrote the journal last, or None where no segment header verifies: the identity for a cut."""
    headers = segment_headers(disk)
    if not headers:
        return None
    last = headers[-1]
    return Identity(last.engine_abi, last.rules_hash, last.journal_id)


def sound_groups(disk: Disk, after_seq: int = 0) -> Iterator[Group]:
    """The groups of commands behind ``after_seq`` that verify and chain, up to the first that does not.

    Reads without a lock and refuses nothing: for `cea journal cut`, `migrate` and for people in need.
    """
    expected_seq, expected_crc = -1, -1
    for name in disk.names():
        if segment_index(name) is None:
            continue
        file = disk.open(name)
        data = file.read(0, file.size())
        file.close()
        header = decode_segment_header(data[:SEGMENT_HEADER_BYTES].tobytes())
        if header is None or (
            expected_seq >= 0 and (header.first_seq, header.prev_crc) != (expected_seq, expected_crc)
        ):
            return
        walk = scan.walk_groups(
            data,
            SEGMENT_HEADER_BYTES,
            data.size,
            seed=seed_of(header.journal_id),
            epoch=header.epoch,
            next_seq=header.first_seq,
            prev_crc=header.prev_crc,
        )
        for offset in walk.offsets:
            group = decode_group(data, int(offset))
            if group.header.kind == COMMANDS and group.header.last_seq > after_seq:
                yield after(group, after_seq)
        expected_seq, expected_crc = walk.next_seq, walk.prev_crc


def rewrite(source: Disk, target: Disk, identity: Identity, until_seq: int | None = None) -> int:
    """Copy the sound groups of ``source`` up to ``until_seq`` into a new journal on the empty ``target``.

    This is both the operator's cut (``until_seq``: what is behind it is given up) and the migration (another
    ``identity``: engine ABI, rules). ``source`` is only read and stays as it is. Snapshots and seals are not
    copied: the new journal replays from its first command. Its epoch is later than any of ``source``, so that
    members see that something happened. Returns the last sequence copied.

    Raises ``JournalError``: TARGET_NOT_EMPTY; SEQUENCE_NOT_REACHED where the sound part ends before ``until_seq``;
    INCOMPLETE_SOURCE where the source's first segments were archived.
    """
    if target.names():
        raise JournalError("TARGET_NOT_EMPTY", f"{target.path} holds files; name a new folder")
    epochs = [h.epoch for h in segment_headers(source)]
    journal = Journal.open(target, identity, first_epoch=max(epochs, default=0) + 1)
    pending = 0
    try:
        for group in sound_groups(source):
            if group.header.first_seq != journal.next_seq:
                raise JournalError("INCOMPLETE_SOURCE", f"{source.path} begins at {group.header.first_seq}")
            commands, payloads = group.commands, group.payloads
            if until_seq is not None and group.header.last_seq > until_seq:
                keep = max(0, until_seq - group.header.first_seq + 1)
                commands = commands[:keep]
                payloads = payloads[: int(payload_lengths(commands).sum())]
            if len(commands):
                journal.append(commands, payloads)
                pending += commands.nbytes
            if pending >= COMMIT_BYTES:
                journal.commit()
                pending = 0
            if until_seq is not None and journal.next_seq > until_seq:
                break
        journal.commit()
        if until_seq is not None and journal.durable_seq < until_seq:
            raise JournalError(
                "SEQUENCE_NOT_REACHED", f"the sound part of {source.path} ends with {journal.durable_seq}"
            )
        return journal.durable_seq
    finally:
        journal.close()
