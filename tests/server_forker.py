"""Starts exchange processes quickly: ``python server_forker.py FOLDER CLOCK``; used by the kill tests.

The libraries are loaded once; each ``start`` on standard input forks a process that serves, and its id is printed.
What is forked has no thread, no socket and no file of the market: all of that is made by the exchange's own start.
"""

from __future__ import annotations

import logging
import os
import sys

from gateway.server import serve


def main(folder: str, clock: str) -> None:
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    for line in sys.stdin:
        assert line == "start\n"
        child = os.fork()
        if child == 0:
            sys.stdin.close()
            os.close(1)
            try:
                code = serve(folder, clock=clock)
            except SystemExit as ended:
                code = ended.code if isinstance(ended.code, int) else 1
            except BaseException as error:
                print(f"{type(error).__name__}: {error}", file=sys.stderr, flush=True)
                code = 1
            os._exit(code)
        print(child, flush=True)
        status = os.waitpid(child, 0)[1]
        print("ended", os.waitstatus_to_exitcode(status), flush=True)


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2])
