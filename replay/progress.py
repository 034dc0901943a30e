"""A progress bar with rate and time left on standard error, so that standard output stays pure.

Shown on a terminal only; a run that is piped or captured stays quiet.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager


@contextmanager
def progress_bar(title: str, unit: str) -> Iterator[Callable[..., None]]:
    """Yields ``update(done, total, unit)``; the bar appears with the first call, and begins anew with another unit."""
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

    console = Console(stderr=True)
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        TextColumn("{task.completed:,.0f} of {task.total:,.0f} {task.fields[unit]}, {task.fields[rate]}/s"),
        TimeRemainingColumn(),
    )
    with Progress(
        *columns,
        console=console,
        transient=True,
        disable=not console.is_terminal,
        redirect_stdout=False,  # what a command prints stays on standard output
        redirect_stderr=False,
    ) as bar:
        task = bar.add_task(title, total=None, visible=False, rate="–", unit=unit)

        def update(done: int, total: int, now: str = unit, /) -> None:
            if bar.tasks[task].fields["unit"] != now:
                bar.reset(task, unit=now)
            elapsed = bar.tasks[task].elapsed or 0
            rate = f"{done / elapsed:,.0f}" if elapsed > 0 else "–"
            bar.update(task, completed=done, total=total, visible=True, rate=rate)

        yield update
