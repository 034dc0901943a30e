"""Reading of message streams for the benchmarks: ``.npy`` files, or ``.npy.xz`` as they are."""

from __future__ import annotations

import io
import lzma
from pathlib import Path

import numpy as np


class StreamError(ValueError):
    """A file that is not the stream it should be; the text names the field and the reason."""


def read_array(path: str | Path) -> np.ndarray:
    """The array in a ``.npy`` or ``.npy.xz`` file, C-contiguous. Pickled content is refused."""
    path = Path(path)
    try:
        raw = lzma.decompress(path.read_bytes()) if path.suffix == ".xz" else path.read_bytes()
        return np.ascontiguousarray(np.load(io.BytesIO(raw), allow_pickle=False))
    except (OSError, lzma.LZMAError, ValueError, EOFError) as error:
        raise StreamError(f"{path}: cannot be read as a .npy or .npy.xz array: {error}") from error


def write_array(path: str | Path, array: np.ndarray) -> None:
    """Write ``array`` as ``.npy``, or packed when the name ends in ``.xz``."""
    path = Path(path)
    buffer = io.BytesIO()
    np.save(buffer, array, allow_pickle=False)
    raw = buffer.getvalue()
    path.write_bytes(lzma.compress(raw, preset=1) if path.suffix == ".xz" else raw)
