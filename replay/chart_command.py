"""``cea chart day|heat|spread|queue``: pictures of a day from its journal, as PNG, SVG or one HTML page."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import typer

app = typer.Typer(help="Pictures of a day from its journal.", no_args_is_help=True)
WRONG_USE = 2

Journal = Annotated[Path, typer.Argument(help="A market folder or a journal folder.", metavar="DIR")]
Out = Annotated[Path, typer.Argument(help="The picture: .png, .svg or .html.", metavar="OUT")]
Instrument = Annotated[str, typer.Option("--instrument", "-i", help="Code, such as CEA24.")]
Date = Annotated[int, typer.Option(help="Trading date, YYYYMMDD; 0: the journal's last.")]
Language = Annotated[str, typer.Option("--lang", help="both · zh · en; Chinese needs a CJK font.")]
RulesFile = Annotated[Path | None, typer.Option(help="The journal's rules (TOML), where no market folder has them.")]


@app.command()
def day(
    path: Journal, out: Out, instrument: Instrument, date: Date = 0, lang: Language = "both", rules: RulesFile = None
) -> None:
    """Deals, the average that becomes the close, limits, bulk deals, volume."""
    _draw("day", path, out, instrument, date, lang, rules)


@app.command()
def heat(
    path: Journal, out: Out, instrument: Instrument, date: Date = 0, lang: Language = "both", rules: RulesFile = None
) -> None:
    """Depth of the book over the day, price by price."""
    _draw("heat", path, out, instrument, date, lang, rules)


@app.command()
def spread(
    path: Journal, out: Out, instrument: Instrument, date: Date = 0, lang: Language = "both", rules: RulesFile = None
) -> None:
    """Spread at the touch, and the imbalance of the best five levels."""
    _draw("spread", path, out, instrument, date, lang, rules)


@app.command()
def queue(
    path: Journal,
    out: Out,
    instrument: Instrument,
    date: Date = 0,
    account: Annotated[int | None, typer.Option(help="Only this account's orders.")] = None,
    order: Annotated[int | None, typer.Option(help="Only this order.")] = None,
    lang: Language = "both",
    rules: RulesFile = None,
) -> None:
    """Queue positions: how many tonnes stood before an order at its price, until it was filled or cancelled."""
    with _drawing(out, lang) as update:
        from replay.journal import JournalReplay
        from replay.journal_views import open_journal
        from replay.queue_chart import draw_queues
        from replay.queue_positions import collect_queues

        replay = JournalReplay(*open_journal(path, rules))
        day, places = collect_queues(replay, instrument, date, update)
        wanted = [p for p in places if account in (None, p.account) and order in (None, p.order_id)]
        draw_queues(instrument, day, wanted, out)


def _draw(what: str, path: Path, out: Path, instrument: str, date: int, lang: str, rules: Path | None) -> None:
    with _drawing(out, lang) as update:
        from replay.journal import JournalReplay
        from replay.journal_views import open_journal
        from replay.market_charts import collect, draw

        draw(collect(JournalReplay(*open_journal(path, rules)), instrument, date, update), what, out)


@contextmanager
def _drawing(out: Path, lang: str) -> Iterator[Callable[..., None]]:
    """A bar while the journal is gone through; errors become one line, and what was drawn is named."""
    from replay.market_charts import ENDINGS, LANGUAGES, language
    from replay.progress import progress_bar
    from replay.source_files import SourceError

    if lang not in LANGUAGES:
        raise typer.BadParameter(f"{lang!r}: expected {', '.join(LANGUAGES)}", param_hint="--lang")
    try:
        if out.suffix not in ENDINGS:  # before the journal is gone through
            raise SourceError(out, f"must end with one of {', '.join(ENDINGS)}")
        if not out.absolute().parent.is_dir():
            raise SourceError(out, "its folder does not exist")
        with language(lang), progress_bar(out.name, "commands") as update:
            yield update
    except SourceError as error:
        typer.echo(f"error: {error}", err=True)
        raise typer.Exit(WRONG_USE) from None
    typer.echo(str(out))
