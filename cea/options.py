"""Options that several commands of `cea` have: one name, one help text, one environment variable each."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Final

import typer

HERE: Final = Path("market")

Folder = Annotated[
    Path,
    typer.Option("--market", "-m", envvar="CEA_MARKET", help="The market folder (made by `cea init`).", metavar="DIR"),
]
Key = Annotated[
    str,
    typer.Option("--as", "-a", envvar="CEA_KEY", help="Whose key: an account number, or a key's name.", metavar="WHO"),
]
Ops = Annotated[str, typer.Option("--as", "-a", help="The operator's key.", metavar="WHO")]
Json = Annotated[bool, typer.Option("--json", help="One JSON document instead of text.")]
