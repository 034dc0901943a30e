"""Options that several commands of `cea` have: one name, one help text, one environment variable each."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Final

import typer

HERE: Final = Path("market")
LISTENS_S: Final = 3.0  # an exchange that starts listens within two; nobody is busy there

Folder = Annotated[
    Path,
    typer.Option("--market", "-m", envvar="CEA_MARKET", help="The market folder (made by `cea init`).", metavar="DIR"),
]
Key = Annotated[
    str,
    typer.Option("--as", "-a", envvar="CEA_KEY", help="Whose key: an account number, or a key's name.", metavar="WHO"),
]
Ops = Annotated[str, typer.Option("--as", "-a", help="The operator's key.", metavar="WHO")]
Timeout = Annotated[
    float,
    typer.Option("--timeout", envvar="CEA_TIMEOUT", help="Seconds until an exchange that does not listen is down."),
]
Json = Annotated[bool, typer.Option("--json", help="One JSON document instead of text.")]
