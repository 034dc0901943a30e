"""Source files of other markets' data, plain or compressed, in blocks of whole lines; errors with file and line."""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import BinaryIO, Final

BLOCK_BYTES: Final = 4 << 20  # of text at a time: some 150,000 lines, parsed in 20 ms
LINE_BYTES_MAX: Final = 1 << 20  # a longer line is no line of a table: the file is something else

_OPENERS: dict[str, Callable[[Path], BinaryIO]] = {
    ".xz": lzma.open,  # type: ignore[dict-item]
    ".gz": gzip.open,  # type: ignore[dict-item]
    ".bz2": bz2.open,  # type: ignore[dict-item]
}

Progress = Callable[[int, int], None]


class SourceError(ValueError):
    """A source file cannot be used. The text names file, line (where there is one) and reason."""

    def __init__(self, path: Path | str, reason: str, line: int = 0) -> None:
        self.path, self.reason, self.line = str(path), reason, line
        place = f"{path}, line {line}" if line else str(path)
        super().__init__(f"{place}: {reason}")


def text_blocks(path: Path, progress: Progress | None = None, block_bytes: int = 0) -> Iterator[bytes]:
    """The file's text in blocks that end with a line, decompressed when its name ends with .xz, .gz or .bz2.

    ``progress(bytes of the file read, its bytes)`` after each block. SourceError when the file can't be read. Memory:
    one block, whatever the file's size.
    """
    opener, block_bytes = _OPENERS.get(path.suffix), block_bytes or BLOCK_BYTES
    try:
        size = path.stat().st_size
        with path.open("rb") as raw:
            file: BinaryIO = opener(raw) if opener else raw  # type: ignore[arg-type]
            kept = b""
            while data := file.read(block_bytes):
                end = data.rfind(b"\n") + 1
                if end:
                    yield kept + data[:end]
                    kept = data[end:]
                else:
                    kept += data
                if len(kept) > max(LINE_BYTES_MAX, block_bytes):
                    raise SourceError(path, f"holds a line of more than {LINE_BYTES_MAX:,} bytes: it is no table")
                if progress:
                    progress(raw.tell(), size)
            if kept:
                yield kept
    except FileNotFoundError:
        raise SourceError(path, "no such file") from None
    except (OSError, EOFError, lzma.LZMAError, zlib.error) as error:
        raise SourceError(path, f"cannot be read: {error}") from error


def text_lines(path: Path, progress: Progress | None = None) -> Iterator[str]:
    """The file's lines as text (UTF-8), each with its end. SourceError names the line that is no UTF-8."""
    before, encoding = 0, "utf-8-sig"  # a byte order mark can only begin the file
    for block in text_blocks(path, progress):
        try:
            text = block.decode(encoding)
        except UnicodeDecodeError as error:
            line = before + block.count(b"\n", 0, error.start) + 1
            raise SourceError(path, f"is not UTF-8: {error.reason}", line) from error
        yield from io.StringIO(text, newline="")
        before, encoding = before + block.count(b"\n"), "utf-8"


def first_line(path: Path) -> bytes:
    """The first line without its end, empty for an empty file. SourceError when the file can't be read."""
    for block in text_blocks(path, block_bytes=1 << 16):
        return block.partition(b"\n")[0].rstrip(b"\r")
    return b""


def name_without_compression(path: Path) -> str:
    """``AMZN_5.cmd.csv.xz`` → ``AMZN_5.cmd.csv``."""
    return path.name[: -len(path.suffix)] if path.suffix in _OPENERS else path.name
