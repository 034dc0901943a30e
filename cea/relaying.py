"""`cea relay`: market data from one exchange (or relay) to many readers."""

from __future__ import annotations

import logging
import signal
from pathlib import Path
from typing import Any

from cea.output import Exit, fail


def relay_command(folder: Path, source: Path | None, key: str, host: str, port: int, *, curve: bool, add: str) -> None:
    """Runs a relay until Ctrl-C or SIGTERM; with ``add`` makes a reader's key and ends."""
    from gateway import config as cfg
    from gateway import relay
    from gateway.keys import KeyFileError

    try:
        if add:
            print(f"{relay.add_reader(folder, add)}: give it to the reader, with {folder}/run/endpoints.json")
            return
        if source is None:
            fail("name the folder that says where the exchange is: --from DIR", Exit.USAGE)
        if cfg.read_endpoints(source) is None:
            fail(f"{source}/run/endpoints.json: not there; copy the exchange's", Exit.CONFIG)
        secret = next((f for f in (source / "keys" / f"{key}.key", Path(key)) if f.is_file()), None)
        if secret is None:
            fail(f"{source}/keys: there is no key {key}", Exit.CONFIG)
        relay.prepare(folder)
        logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
        run = relay.Relay(folder, source, str(secret), host=host, port=port, curve=curve)
    except (KeyFileError, cfg.ConfigError, OSError) as error:
        fail(str(error), Exit.CONFIG)

    def stop(number: int, frame: Any) -> None:
        run.stopping = True

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, stop)
    try:
        run.open()
        print(f"readers {run.endpoints.members}, feed {run.endpoints.feed}; Ctrl-C ends it", flush=True)
        run.run()
    except (KeyFileError, OSError) as error:  # a ZMQError is an OSError's cousin: ports that are taken
        fail(str(error), Exit.CONFIG)
    finally:
        run.close()
