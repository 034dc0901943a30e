"""All benchmarks, one after the other, each in a process of its own: ``python -m benchmarks [--smoke] [names]``.

``--smoke`` asks only whether each runs: small numbers that say nothing about speed. A benchmark that ends with an
error makes the whole run end with 1. Streams of the public benchmark are read from the folder that CEA_DATA names
(or ``shared/data`` beside the repository) and left out where it is absent.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parent.parent

# Name → arguments of a real run, arguments of a smoke run. flash1 and book get their file in `commands`.
BENCHMARKS: dict[str, tuple[Sequence[str], Sequence[str]]] = {
    "engine": ((), ("--smoke",)),
    "book": ((), ("--runs", "2")),
    "flash1": ((), ("--runs", "2")),
    "journal": ((), ("--quick",)),
    "starts": ((), ("--smoke",)),
    "gateway": ((), ("--smoke",)),
    "settlement": ((), ("--quick",)),
    "desk": ((), ("--smoke",)),
    "surveillance": ((), ("--smoke",)),
    "room": ((), ("--smoke",)),
    "page": ((), ("--smoke",)),
    "replay": ((), ("--smoke",)),
    "cea": ((), ("--smoke",)),
}
SMOKE_ORDERS = 20_000  # of the book's made-up stream


def data_folder() -> Path | None:
    """Real market data, where there is any."""
    named = os.environ.get("CEA_DATA")
    folder = Path(named) if named else REPOSITORY.parent / "shared" / "data"
    return folder if folder.is_dir() else None


def commands(name: str, *, smoke: bool, scratch: Path) -> list[list[str]]:
    """What to run for a benchmark; nothing where its data is not here."""
    base = [sys.executable, "-m", f"benchmarks.{name}"]
    words = [*base, *BENCHMARKS[name][1 if smoke else 0]]
    if name == "book":
        stream = str(scratch / "book.npy")
        made = [*base, "--generate", stream, *(["--orders", str(SMOKE_ORDERS)] if smoke else [])]
        return [made, [*words, stream]]
    if name == "flash1":
        data = data_folder()
        streams = sorted((data / "flash1").glob("*.npy.xz")) if data else []
        return [[*words, str(stream)] for stream in streams[: 1 if smoke else None]]
    return [words]


def main() -> int:
    """Runs what was asked for; the number of failures decides the exit code."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=(__doc__ or "").split("\n")[0])
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"of {', '.join(BENCHMARKS)}; all when none is given")
    parser.add_argument("--smoke", action="store_true", help="does each run at all")
    args = parser.parse_args()
    unknown = [name for name in args.names if name not in BENCHMARKS]
    if unknown:
        parser.error(f"unknown benchmark {', '.join(unknown)}; there are {', '.join(BENCHMARKS)}")
    failed, began = [], time.monotonic()
    with tempfile.TemporaryDirectory(prefix="benchmarks-") as scratch:
        for name in args.names or BENCHMARKS:
            todo = commands(name, smoke=args.smoke, scratch=Path(scratch))
            if not todo:
                print(f"== {name}: left out, its data is not here (CEA_DATA)", flush=True)
            for words in todo:
                print(f"== {' '.join(words[1:])}", flush=True)
                since = time.monotonic()
                code = subprocess.run(words, cwd=REPOSITORY, check=False).returncode
                print(f"== {name}: exit code {code} after {time.monotonic() - since:.0f} s", flush=True)
                if code:
                    failed.append(name)
    print(f"== all after {time.monotonic() - began:.0f} s; failed: {', '.join(failed) or 'none'}")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
