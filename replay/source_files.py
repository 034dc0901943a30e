"""Source files of other markets' data: plain or compressed, read whole, and their errors with file, line and reason."""

from __future__ import annotations

import bz2
import gzip
import lzma
from collections.abc import Callable
from pathlib import Path

# one file as text in memory; a day of order-by-order data has some 10^8 bytes
SOURCE_BYTES_MAX = 4 << 30

_OPENERS: dict[str, Callable[[bytes], bytes]] = {".xz": lzma.decompress, ".gz": gzip.decompress, ".bz2": bz2.decompress}


class SourceError(ValueError):
    """A source file cannot be used. The text names file, line (where there is one) and reason."""

    def __init__(self, path: Path | str, reason: str, line: int = 0) -> None:
        self.path, self.reason, self.line = str(path), reason, line
        place = f"{path}, line {line}" if line else str(path)
        super().__init__(f"{place}: {reason}")


def read_source(path: Path) -> bytes:
    """The file's bytes, decompressed when its name ends with .xz, .gz or .bz2. SourceError when it can't be read."""
    try:
        if path.stat().st_size > SOURCE_BYTES_MAX:
            raise SourceError(path, f"larger than {SOURCE_BYTES_MAX} bytes")
        data = path.read_bytes()
        opener = _OPENERS.get(path.suffix)
        data = opener(data) if opener else data
    except FileNotFoundError:
        raise SourceError(path, "no such file") from None
    except (OSError, EOFError, lzma.LZMAError) as error:
        raise SourceError(path, f"cannot be read: {error}") from error
    if len(data) > SOURCE_BYTES_MAX:
        raise SourceError(path, f"larger than {SOURCE_BYTES_MAX} bytes when decompressed")
    return data


def name_without_compression(path: Path) -> str:
    """``AMZN_5.cmd.csv.xz`` → ``AMZN_5.cmd.csv``."""
    return path.name[: -len(path.suffix)] if path.suffix in _OPENERS else path.name
