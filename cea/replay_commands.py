"""`cea replay …` as replay/commands.py has it, and `cea replay publish`, which needs the gateway too."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from replay.commands import WRONG_USE, app

__all__ = ["app"]


@app.command()
def publish(
    path: Annotated[Path, typer.Argument(help="A market folder or a journal folder.", metavar="DIR")],
    to: Annotated[Path, typer.Option(help="Folder for endpoints and the readers' key.")] = Path("out/replayed"),
    speed: Annotated[float, typer.Option(min=0, help="Times as fast as it was; 0: as fast as possible.")] = 10.0,
    date: Annotated[int, typer.Option(help="Only this trading day, YYYYMMDD; 0: the whole journal.")] = 0,
    readers: Annotated[int, typer.Option(min=0, help="Begin when so many readers have subscribed.")] = 0,
    members: Annotated[
        str, typer.Option(help="Accounts whose reports are sent again, such as 1,17: each has a key copy-ACCOUNT.")
    ] = "",
    stay: Annotated[bool, typer.Option("--stay", help="Go on answering after the end, until Ctrl-C.")] = False,
    rules: Annotated[
        Path | None, typer.Option(help="The journal's rules (TOML), where no market folder has them.")
    ] = None,
) -> None:
    """Publish a journal on a market-data endpoint: `cea watch -m out/replayed` sees the day again."""
    from cea.republish import republishing
    from gateway.server import StartError
    from replay.progress import progress_bar
    from replay.source_files import SourceError

    try:
        accounts = [int(word) for word in members.split(",") if word]
    except ValueError:
        raise typer.BadParameter(f"{members!r}: expected account numbers, 1,17", param_hint="--members") from None
    try:
        with republishing(path, to, rules, date, accounts) as server, server.signals():
            typer.echo(f"{server.endpoints.feed}: look with `cea watch -m {to}` or `cea book CODE -m {to}`", err=True)
            server.wait_for(readers)
            with progress_bar("published", "commands") as update:
                played = server.play(speed, update)
            if stay:
                server.serve_for(float("inf"))
    except (SourceError, StartError) as error:
        typer.echo(f"error: {error}", err=True)
        raise typer.Exit(WRONG_USE) from None
    typer.echo(f"{played:,} commands published")
