"""The command `cea`: what there is, with its help. The work is in the modules that a command imports when it runs.

Nothing heavy is imported here (numba, pandas, SQLAlchemy, matplotlib, zmq), so that `cea --help` answers at
once; tests/test_cli.py measures it.
"""

from __future__ import annotations

import sys
from importlib import import_module
from pathlib import Path
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from cea.options import HERE, LISTENS_S, Folder, Json, Key, Timeout
from cea.output import Exit


class Root(TyperGroup):
    """The whole command. Its own help is plain text in sections: to import rich takes longer than all the rest."""

    def format_help(self, ctx: Any, formatter: Any) -> None:
        """Usage, what it is, the commands by section, exit codes."""
        formatter.write_usage(ctx.command_path, "COMMAND …")
        formatter.write_paragraph()
        formatter.write_text(self.help or "")
        sections: dict[str, list[tuple[str, str]]] = {}
        for name in self.list_commands(ctx):
            sub = self.get_command(ctx, name)
            if sub is not None and not sub.hidden:
                section = getattr(sub, "rich_help_panel", None) or "Other"
                sections.setdefault(str(section), []).append((name, sub.get_short_help_str(limit=SHORT_HELP)))
        for section, rows in sections.items():
            with formatter.section(section):
                formatter.write_dl(rows)
        formatter.write_paragraph()
        formatter.write_text(self.epilog or "")
        formatter.write_paragraph()
        formatter.write_text("cea COMMAND --help says more of each.")


app = typer.Typer(
    name="cea",
    cls=Root,
    help="The trading system of a national carbon market: run it, trade on it, look into it, replay it.",
    epilog="Exit codes: 0 done · 1 refused, or something was found · 2 wrong command line · 3 market folder or key "
    "unusable · 4 no exchange answers · 65 recovery refused · 74 journal's disk failed.",
    no_args_is_help=True,
    rich_markup_mode="rich",
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)

SHORT_HELP = 140  # characters of a command's first sentence in the list

# Sub-commands that live elsewhere: name → (module, one line of help). Imported when used.
SUB_COMMANDS = {
    "journal": ("cea.journal_commands", "Look into a journal: files, groups; cut what recovery refuses."),
    "bulk": ("cea.bulk_commands", "The bulk-agreement desk: declare, offer, counter, accept, confirm."),
    "auction": ("cea.auction_commands", "The one-way auction: apply, answer, announce, bid, allocate."),
    "registry": ("cea.registry_commands", "The registry: accounts, allowances, transfers, clearing, statements."),
    "replay": ("cea.replay_commands", "Replay journals, order-by-order files and historical days."),
    "simulate": ("replay.simulate_command", "A day of synthetic order flow from a seed."),
    "chart": ("replay.chart_command", "Pictures of a day from its journal."),
}

MARKET = "Where you act"
LOOK = "Looking in"
RUN = "Running a market"


# --- running a market ------------------------------------------------------------------------------------------


@app.command(rich_help_panel=RUN)
def init(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="A new folder for the market.")] = HERE,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Ask nothing, take the defaults.")] = False,
    members: Annotated[int, typer.Option(min=1, max=4_000, help="How many member accounts.")] = 3,
    date: Annotated[int, typer.Option(help="First trading day, YYYYMMDD; 0: the next one from today.")] = 0,
    port: Annotated[
        int,
        typer.Option(min=0, max=65_532, help="First of four ports (members, operators, feed, metrics); 0: free ones."),
    ] = 0,
    name: Annotated[str, typer.Option(help="The market's name.")] = "",
    registry: Annotated[str, typer.Option(help="The registry's database URL.")] = "sqlite:///registry.db",
    lane: Annotated[str, typer.Option(help="How members' orders are taken: plain or hot.")] = "plain",
    empty: Annotated[bool, typer.Option("--empty", help="Accounts without cash and allowances.")] = False,
) -> None:
    """Make a market folder: commented configuration, CURVE keys, journal, registry. Asks what --yes leaves out.

    The vintages and previous closes are those of 2025-12-03. Unless --empty, each account gets cash and
    allowances in the registry, ready to be moved into trading when the exchange runs (`cea fund`).
    """
    from cea.folder import init_command

    init_command(
        folder, yes=yes, name=name, members=members, date=date, port=port, registry=registry, lane=lane, empty=empty
    )


@app.command(rich_help_panel=RUN)
def serve(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="The market folder.")] = HERE,
    clock: Annotated[
        str, typer.Option(help="real · stepped (moved by an operator) · scaled:N (N times as fast).")
    ] = "real",
    verbose: Annotated[bool, typer.Option("--verbose", "-v", help="Log more.")] = False,
) -> None:
    """Run the exchange of a market folder until Ctrl-C or SIGTERM.

    Start-up is recovery: snapshot, then journal. Exit code 0 after a clean stop, 65 when recovery needs a
    decision, 74 when the journal's disk failed.
    """
    from cea.serving import serve_command

    serve_command(folder, clock, verbose=verbose)


@app.command(rich_help_panel=RUN)
def fund(folder: Folder = HERE, as_json: Json = False) -> None:
    """Move every member's registry cash and allowances into its trading account.

    Needs the exchange to run. Safe to repeat: transfers bear document numbers, a second run does nothing.
    """
    from cea.serving import fund_command

    fund_command(folder, as_json=as_json)


@app.command(rich_help_panel=RUN)
def settle(
    folder: Folder = HERE,
    watch: Annotated[
        bool, typer.Option("--watch", help="Stay: settle each day after its close, check each morning, until Ctrl-C.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Settle the closed day: clear, both sides confirm, deliver against payment, reconcile, write statements.

    Needs the exchange to run, after the close. Safe to repeat. Exit code 1 when a pair is held or the two sides
    differ: the next day then waits for an operator.
    """
    if watch:
        from cea.settling import watch_command

        watch_command(folder)
        return
    from cea.serving import settle_command

    settle_command(folder, as_json=as_json)


@app.command(rich_help_panel=RUN)
def demo(
    out: Annotated[Path, typer.Option(help="Folder for the demo's market and chart; made anew.")] = Path("out"),
    seed: Annotated[int, typer.Option(help="Another seed, other orders, the same figures.")] = 1,
    kill: Annotated[bool, typer.Option("--kill", help="SIGKILL the exchange half-way and start it again.")] = False,
    as_json: Json = False,
) -> None:
    """Run 3 December 2025 of the national market through the whole system.

    Registry, exchange process, members over CURVE, bulk desk, close, settlement, bulletin. Every figure is
    compared with the published one; exit code 1 when any differs.
    """
    from cea.demo import demo_command

    demo_command(out, seed=seed, kill=kill, as_json=as_json)


@app.command(rich_help_panel=RUN)
def day(
    date: Annotated[str, typer.Argument(help="Trading day, such as 2025-12-03.")],
    figures: Annotated[
        Path | None, typer.Option(help="The exchange's daily figures (CSV); else found in the folder CEA_DATA.")
    ] = None,
    out: Annotated[Path, typer.Option(help="Folder for the chart.")] = Path("out"),
    seed: Annotated[int, typer.Option(help="Another seed, other orders, the same figures.")] = 1,
    deals: Annotated[int, typer.Option(min=0, max=5_000, help="About how many listed deals.")] = 200,
    gateway: Annotated[
        Path | None, typer.Option(help="Play it through an exchange process in this new market folder.", metavar="DIR")
    ] = None,
    speed: Annotated[
        float, typer.Option(min=0, help="With --gateway: times as fast as the day was; 0: at once.")
    ] = 0.0,
    as_json: Json = False,
) -> None:
    """Rebuild a historical day from its published figures, with a plausible flow between the deals.

    Orders lead through matching to the published prices, volumes and amounts; exit code 1 when any figure differs.
    The flow is made up (docs/replay.md says how), the figures are not.
    """
    from cea.day import day_command

    day_command(date, figures, out, seed=seed, deals=deals, gateway=gateway, speed=speed, as_json=as_json)


@app.command(rich_help_panel=RUN)
def clock(
    to: Annotated[str, typer.Argument(help="Time of day, Asia/Shanghai: 09:30 or 14:59:59.")], folder: Folder = HERE
) -> None:
    """Step the clock of an exchange that runs with `--clock stepped`; what falls due on the way is done.

    A time that has passed today means tomorrow.
    """
    from cea.market_commands import clock_command

    clock_command(folder, to)


@app.command(rich_help_panel=RUN)
def monitor(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="The market folder.")] = HERE,
    host: Annotated[str, typer.Option(help="Address to serve on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65_535, help="0: a free one.")] = 8060,
    feed_key: Annotated[str, typer.Option("--feed-key", help="Whose key reads the exchange: a viewer's.")] = "monitor",
    add: Annotated[str, typer.Option(metavar="NAME", help="Add a person (password asked), then end.")] = "",
    role: Annotated[str, typer.Option(help="With --add: viewer or operator.")] = "viewer",
    key: Annotated[str, typer.Option("--key", help="With --add: the operator key that the person acts with.")] = "",
    idle: Annotated[float, typer.Option(min=0.01, help="Minutes without a click, then one logs in again.")] = 15,
) -> None:
    """The market operators' page: market, desk, members, health, alerts, controls.

    A process of its own; it can stop and start while the exchange runs.
    """
    from cea.monitoring import add_user, monitor_command

    if add:
        add_user(folder, add, role, key)
    else:
        monitor_command(folder, host, port, feed_key, idle_s=idle * 60)


@app.command(rich_help_panel=RUN)
def operate(
    act: Annotated[str, typer.Argument(help="What to do; without it: the list.")] = "",
    why: Annotated[str, typer.Option(help="The reason; it goes into the journal.")] = "",
    account: Annotated[str, typer.Option(help="Account number; several for a drop copy: 1,2.")] = "",
    vintage: Annotated[str, typer.Option(help="Such as CEA24.")] = "",
    declaration: Annotated[str, typer.Option(help="Number of a bulk declaration; 0: the whole desk.")] = "",
    dialogue: Annotated[str, typer.Option(help="Number of a bulk dialogue.")] = "",
    auction: Annotated[str, typer.Option(help="Number of an auction.")] = "",
    opens: Annotated[str, typer.Option(help="Begin of its window, HH:MM.")] = "",
    closes: Annotated[str, typer.Option(help="End of its window, HH:MM.")] = "",
    deal: Annotated[str, typer.Option(help="Number of a deal of the day.")] = "",
    second: Annotated[str, typer.Option(help="The second person's key, where two are needed.")] = "",
    proposal: Annotated[str, typer.Option(help="With confirm: the proposal's number.")] = "",
    key: Annotated[str, typer.Option(help="Name of a key to issue or revoke.")] = "",
    role: Annotated[str, typer.Option(help="Of a new key: trader, risk, drop_copy, operator.")] = "",
    text: Annotated[str, typer.Option(help="Of a notice; an account's name.")] = "",
    position_max: Annotated[str, typer.Option(help="Largest holding, t; none where it is not given.")] = "",
    sell_max: Annotated[str, typer.Option(help="Most that may be sold in a day, t.")] = "",
    who: Annotated[str, typer.Option("--as", "-a", help="The operator's key.", metavar="WHO")] = "ops1",
    folder: Folder = HERE,
    as_json: Json = False,
) -> None:
    """An operator's act: halt, suspend, kill switch, keys, vintages, notices …

    Each goes into the journal with the key's name and the reason. `cea operate` lists what there is.
    """
    from cea.operating import list_controls, operate_command

    if not act:
        list_controls()
        return
    given = {
        "account": account, "vintage": vintage, "declaration": declaration, "dialogue": dialogue, "auction": auction,
        "deal": deal, "second": second, "proposal": proposal, "key": key, "role": role, "text": text,
        "position-max": position_max, "sell-max": sell_max, "opens": opens, "closes": closes,
    }  # fmt: skip
    operate_command(folder, act, who, why, {name: value for name, value in given.items() if value}, as_json=as_json)


@app.command(rich_help_panel=RUN)
def relay(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="The relay's own folder: its keys; made when new.")],
    source: Annotated[
        Path | None,
        typer.Option("--from", metavar="DIR", help="Folder with run/endpoints.json of an exchange or relay."),
    ] = None,
    key: Annotated[
        str, typer.Option("--key", help="Key to read it with: a name in its keys/, or a key file.")
    ] = "relay",
    host: Annotated[str, typer.Option(help="Address to serve on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65_534, help="Readers' port, the feed's is the next; 0: free.")] = 0,
    no_curve: Annotated[bool, typer.Option("--no-curve", help="Without encryption; loopback only.")] = False,
    add: Annotated[str, typer.Option(metavar="NAME", help="Make a key for a reader, then end.")] = "",
) -> None:
    """Pass market data on to many readers, with snapshots: the way past one machine.

    A reader uses it like the exchange: `cea watch -m DIR`, MarketDataClient(DIR). It takes no orders.
    """
    from cea.relaying import relay_command

    relay_command(folder, source, key, host, port, curve=not no_curve, add=add)


@app.command(rich_help_panel=RUN)
def backup(
    target: Annotated[Path, typer.Argument(metavar="NEW", help="A new, empty folder for the backup.")],
    folder: Folder = HERE,
    drill: Annotated[bool, typer.Option("--drill", help="Restore it beside, replay it, verify it.")] = False,
    as_json: Json = False,
) -> None:
    """Back a market folder up while the exchange runs: registry, journal, configuration, keys.

    The keys are in it: keep it as you keep them. Exit code 1 when the drill finds anything.
    """
    from cea.backups import backup_command

    backup_command(folder, target, drill=drill, as_json=as_json)


@app.command(rich_help_panel=RUN)
def restore(
    source: Annotated[Path, typer.Argument(metavar="BACKUP", help="What `cea backup` made.")],
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="A new, empty market folder.")],
    as_json: Json = False,
) -> None:
    """Make a market folder of a backup: every file's hash, a full replay of the journal, the registry's check."""
    from cea.backups import restore_command

    restore_command(source, folder, as_json=as_json)


@app.command(rich_help_panel=RUN)
def doctor(folder: Folder = HERE, as_json: Json = False) -> None:
    """Check this machine and market folder: versions, fonts, disk, keys, calendar, journal, exchange."""
    from cea.doctor import doctor_command

    doctor_command(folder, as_json=as_json)


# --- acting as a member ----------------------------------------------------------------------------------------


@app.command(rich_help_panel=MARKET)
def order(
    side: Annotated[str, typer.Argument(help="buy or sell")],
    code: Annotated[str, typer.Argument(help="Vintage, such as CEA24.")],
    price: Annotated[str, typer.Argument(help="CNY per tonne, such as 59.50.")],
    quantity: Annotated[int, typer.Argument(help="Tonnes.")],
    kind: Annotated[str, typer.Option("--type", help="limit · ioc · fok · best_five · post_only")] = "limit",
    folder: Folder = HERE,
    who: Key = "",
    as_json: Json = False,
) -> None:
    """Send an order: cea order buy CEA24 59.50 1000

    Exit code 1 when the exchange refuses it, with the reject code and its reason.
    """
    from cea.member_commands import order_command

    order_command(folder, who, side, code, price, quantity, kind, as_json=as_json)


@app.command(rich_help_panel=MARKET)
def cancel(
    order_id: Annotated[str, typer.Argument(help="Order id, or `all`.")],
    folder: Folder = HERE,
    who: Key = "",
    as_json: Json = False,
) -> None:
    """Cancel an open order, or all of the account's."""
    from cea.member_commands import cancel_command

    cancel_command(folder, who, order_id, as_json=as_json)


@app.command(rich_help_panel=MARKET)
def orders(folder: Folder = HERE, who: Key = "", as_json: Json = False) -> None:
    """List the account's open orders."""
    from cea.member_commands import orders_command

    orders_command(folder, who, as_json=as_json)


@app.command(rich_help_panel=MARKET)
def fills(folder: Folder = HERE, who: Key = "", as_json: Json = False) -> None:
    """List what the session's orders have dealt today."""
    from cea.member_commands import fills_command

    fills_command(folder, who, as_json=as_json)


@app.command(rich_help_panel=MARKET)
def balances(folder: Folder = HERE, who: Key = "", as_json: Json = False) -> None:
    """Show the account's cash and allowances, bucket by bucket."""
    from cea.member_commands import balances_command

    balances_command(folder, who, as_json=as_json)


@app.command(rich_help_panel=MARKET)
def certify(
    folder: Folder = HERE,
    who: Key = "",
    at: Annotated[str, typer.Option(help="An exchange's address, tcp://host:port; the key is then a key file.")] = "",
    only: Annotated[list[int] | None, typer.Option(help="Only this card; may be given several times.")] = None,
    as_json: Json = False,
) -> None:
    """Run the protocol's numbered cards against an exchange with your own key.

    Some cards place small orders and cancel them; outside trading hours they are not tried. Exit code 1
    when a card fails, 3 when the key cannot be used, 4 when nobody answers it.
    """
    from cea.member_commands import certify_command

    certify_command(folder, who, only or [], at=at, as_json=as_json)


# --- looking in ------------------------------------------------------------------------------------------------


@app.command(rich_help_panel=LOOK)
def status(folder: Folder = HERE, timeout: Timeout = LISTENS_S, as_json: Json = False) -> None:
    """What the exchange is doing: phase, vintages, sessions, sequence, alarms."""
    from cea.market_commands import status_command

    status_command(folder, listens_s=timeout, as_json=as_json)


@app.command(rich_help_panel=LOOK)
def book(
    code: Annotated[str, typer.Argument(help="Vintage, such as CEA24.")],
    once: Annotated[bool, typer.Option("--once", help="Show it once instead of live.")] = False,
    folder: Folder = HERE,
    who: Key = "",
    timeout: Timeout = LISTENS_S,
    as_json: Json = False,
) -> None:
    """The five best levels of a vintage, live from the feed; q or Ctrl-C ends it. Once, where it is no terminal."""
    from cea.watching import book_command

    book_command(folder, who, code, listens_s=timeout, once=once, as_json=as_json)


@app.command(rich_help_panel=LOOK)
def watch(
    codes: Annotated[list[str] | None, typer.Argument(metavar="[CODE]...", help="Only these vintages.")] = None,
    folder: Folder = HERE,
    who: Key = "",
    seconds: Annotated[float, typer.Option(help="End after so many seconds; 0: Ctrl-C.")] = 0,
    lines: Annotated[
        bool, typer.Option("--lines", help="A line for each deal and notice, also on a terminal.")
    ] = False,
    timeout: Timeout = LISTENS_S,
    as_json: Json = False,
) -> None:
    """The market live: a book, the tape, the composite; q or Ctrl-C ends it. Lines, where the output is no terminal."""
    from cea.watching import watch_command

    watch_command(folder, who, codes or [], listens_s=timeout, seconds=seconds, lines=lines, as_json=as_json)


@app.command(rich_help_panel=LOOK)
def bulletin(
    action: Annotated[
        str, typer.Argument(metavar="[correct]", help="correct: publish the closed day's next version, with --why.")
    ] = "",
    folder: Folder = HERE,
    date: Annotated[int, typer.Option(help="Trading day, YYYYMMDD; 0: the last that is closed.")] = 0,
    out: Annotated[
        Path | None, typer.Option(help="Write all closed days as a table: .parquet or .csv (docs/replay.md).")
    ] = None,
    why: Annotated[str, typer.Option(help="With correct: the reason, which everybody reads.")] = "",
    who: Key = "",
    as_json: Json = False,
) -> None:
    """The bulletin of a closed day, in Chinese and English, from the journal.

    `cea bulletin correct --why TEXT` publishes a new version after a deal was cancelled behind the close; both stay.
    """
    from cea.bulletins import bulletin_command, correct_command

    if action not in ("", "correct"):
        raise typer.BadParameter(f"{action!r}: only `correct` can be done here", param_hint="ACTION")
    if action:
        correct_command(folder, who, why, as_json=as_json)
    else:
        bulletin_command(folder, date, out, as_json=as_json)


@app.command(rich_help_panel=LOOK)
def alerts(
    folder: Folder = HERE,
    date: Annotated[int, typer.Option(help="Only this trading day, YYYYMMDD.")] = 0,
    as_json: Json = False,
) -> None:
    """What surveillance finds in the journal: wash trades, layering, marked closes and more, with evidence."""
    from cea.surveying import alerts_command

    alerts_command(folder, date, as_json=as_json)


@app.command(rich_help_panel=LOOK)
def verify(
    what: Annotated[str, typer.Argument(help="journal or registry")],
    place: Annotated[
        str, typer.Argument(metavar="PLACE", help="A market folder; of a registry also its file or URL.")
    ] = str(HERE),
    expect: Annotated[str, typer.Option(help="The state hash that the journal's replay must end with (hex).")] = "",
    as_json: Json = False,
) -> None:
    """Check a journal or a registry to the last byte: nothing in it is believed.

    journal: every byte, chain, seal and snapshot, and the state hash of a full replay.
    registry: every posted row, seal, balance and serial range, computed again.
    Exit code 1 when anything is found.
    """
    if what == "journal":
        from cea.journal_commands import verify_command

        verify_command(Path(place), expect, as_json=as_json)
    elif what == "registry":
        from settlement.account_commands import verify as verify_registry

        if expect:
            raise typer.BadParameter("a registry has no state hash", param_hint="--expect")
        verify_registry(place, as_json)
    else:
        raise typer.BadParameter(f"{what!r}: expected journal or registry", param_hint="WHAT")


# --- sub-commands in other modules -----------------------------------------------------------------------------


class LazyGroup(TyperGroup):
    """A group of commands whose module is imported only when one of them is asked for."""

    def __init__(self, name: str, module: str, text: str) -> None:
        super().__init__(name=name, help=text, no_args_is_help=True, rich_help_panel="More commands")
        self.rich_markup_mode = "rich"
        self._module = module
        self._loaded: Any = None

    def _group(self) -> Any:
        if self._loaded is None:
            self._loaded = typer.main.get_group(import_module(self._module).app)
        return self._loaded

    def list_commands(self, ctx: Any) -> list[str]:
        """Names of the commands, from the module."""
        return self._group().list_commands(ctx)

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        """One command, from the module."""
        return self._group().get_command(ctx, cmd_name)


def command() -> Any:
    """The whole command tree."""
    group = typer.main.get_group(app)
    for name, (module, text) in SUB_COMMANDS.items():
        group.add_command(LazyGroup(name, module, text))
    return group


def main() -> None:
    """Entry point of `cea`. Ctrl-C ends it quietly with 130; a closed pipe is no error."""
    try:
        command()()
    except BrokenPipeError:
        sys.stderr.close()
        sys.exit(Exit.OK)


if __name__ == "__main__":
    main()
