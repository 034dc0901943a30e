"""``cea simulate zero|hawkes``: synthetic flow with stated, assumed rates; seed and parameters stand in the output."""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path
from typing import Annotated, Any

import typer

app = typer.Typer(help="Synthetic order flow through the engine, from a seed.", no_args_is_help=True)
WRONG_USE = 2

Out = Annotated[
    Path | None, typer.Option("--out", help="A new folder for the day's journal, for cea replay and chart.")
]
Seed = Annotated[int, typer.Option(min=0)]
Rate = Annotated[float, typer.Option(help="Messages per second and vintage; of hawkes the base rate. Assumed.")]
Members = Annotated[int, typer.Option(min=2, max=4_000)]
Deadline = Annotated[int, typer.Option(min=0, help="Days to the surrender deadline: the nearer, the more need.")]
Date = Annotated[int, typer.Option(help="Trading date, YYYYMMDD.")]
Cancels = Annotated[float, typer.Option(min=0, max=1, help="Share of the messages that cancel an order. Assumed.")]
Takers = Annotated[float, typer.Option(min=0, max=1, help="Share of the orders that take the best five. Assumed.")]
Distance = Annotated[float, typer.Option(help="Mean distance of a limit order from the touch, fen. Assumed.")]
Size = Annotated[float, typer.Option(help="Mean size of an order, t. Assumed.")]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON object.")]


@app.command()
def zero(
    out: Out = None,
    seed: Seed = 1,
    rate: Rate = 1.0,
    members: Members = 40,
    days_to_deadline: Deadline = 20,
    cancels: Cancels = 0.35,
    takers: Takers = 0.1,
    distance: Distance = 15.0,
    size: Size = 400.0,
    date: Date = 20251203,
    json: Json = False,
) -> None:
    """Zero intelligence: messages come as a Poisson stream."""
    given = {"seed": seed, "rate": rate, "members": members, "days_to_deadline": days_to_deadline, "date": date}
    orders = {"cancels": cancels, "takers": takers, "distance_fen": distance, "size_t": size}
    _simulate({"kind": "zero", **given, **orders}, out, json)


@app.command()
def hawkes(
    out: Out = None,
    seed: Seed = 1,
    rate: Rate = 0.5,
    excitement: Annotated[float, typer.Option(help="Further messages that one message brings on average.")] = 0.6,
    decay: Annotated[float, typer.Option(help="How fast that fades, per second.")] = 0.1,
    members: Members = 40,
    days_to_deadline: Deadline = 20,
    cancels: Cancels = 0.35,
    takers: Takers = 0.1,
    distance: Distance = 15.0,
    size: Size = 400.0,
    date: Date = 20251203,
    json: Json = False,
) -> None:
    """Hawkes: messages excite further messages, so they come in clusters."""
    given = {"seed": seed, "rate": rate, "members": members, "days_to_deadline": days_to_deadline, "date": date}
    orders = {"cancels": cancels, "takers": takers, "distance_fen": distance, "size_t": size}
    _simulate({"kind": "hawkes", "excitement": excitement, "decay": decay, **given, **orders}, out, json)


def _simulate(given: dict[str, Any], out: Path | None, json: bool) -> None:
    import msgspec

    from engine.calendar import to_date
    from replay.progress import progress_bar
    from replay.simulate import Parameters, Simulation
    from replay.whole_file import whole_folder

    if out is not None and out.exists() and any(out.iterdir()):
        typer.echo(f"error: {out}: is not empty", err=True)
        raise typer.Exit(WRONG_USE)
    try:
        parameters = msgspec.convert(given, Parameters).checked()
        try:
            to_date(parameters.date)
        except ValueError as error:
            raise ValueError(f"--date {parameters.date}: {error}") from None
    except ValueError as error:  # msgspec's is one of them
        typer.echo(f"error: {error}", err=True)
        raise typer.Exit(WRONG_USE) from None
    with ExitStack() as stack:
        folder = stack.enter_context(whole_folder(out)) if out is not None else None
        report = Simulation(parameters, folder).run(stack.enter_context(progress_bar("simulate", "messages")))
    report.journal = str(out or "")
    if json:
        typer.echo(msgspec.json.format(msgspec.json.encode(report), indent=2).decode())
        return
    p = report.parameters
    unused = () if p.kind == "hawkes" else ("excitement", "decay")
    fields = {n: v for n, v in msgspec.to_builtins(p).items() if n not in ("vintages", *unused)}
    typer.echo("rates, shares and sizes are assumed: " + ", ".join(f"{n} {v}" for n, v in fields.items()))
    typer.echo(
        f"{report.orders:,} orders, {report.cancels:,} cancels, {report.rejected:,} refused, {report.deals:,} deals"
    )
    for code, close in report.closes.items():
        typer.echo(f"  {code}: {p.vintages[code] / 100:.2f} → {close / 100:.2f}")
    typer.echo(f"state {report.state_hash}" + (f", journal in {report.journal}" if report.journal else ""))
