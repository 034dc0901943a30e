"""What the tabs of the page have in common: words, tables, dialogs that end with the act."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Hashable, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Final

from nicegui import ui

from gateway.monitor.texts import word

if TYPE_CHECKING:
    from collections.abc import Iterator

    from gateway.monitor.view import View

RIGHT: Final = frozenset(
    {
        "price", "quantity", "orders", "number", "count", "value", "available", "locked", "requests", "unsent",
        "throttled", "malformed", "round_trip", "refused", "bids", "bulk_t", "auction_t", "volume", "amount", "deals",
        "opening", "high", "low", "close", "change",
    }
)  # fmt: skip

PLACE: Final = "place"
# These may break into lines; on a phone, where a table is moved sideways, lists of figures stay one line.
LONG: Final = dict.fromkeys(("text", "result", "reason_short"), "long") | dict.fromkeys(
    ("holdings", "near_limits"), "long line"
)


class Panel(ABC):
    """One tab of one browser. ``build`` once; ``fill`` at each look while the tab is shown."""

    def __init__(self, view: View) -> None:
        self.view, self.picture, self.user, self.pages = view, view.picture, view.user, view.pages
        self.tables: dict[str, Any] = {}
        self._drawn: dict[str, Any] = {}

    @abstractmethod
    def build(self) -> None:
        """Makes the tab's elements."""

    @abstractmethod
    def fill(self, status: dict[str, Any]) -> None:
        """Puts in what has changed."""

    def w(self, key: str) -> str:
        """A word in this browser's language."""
        return word(key, self.view.language)

    def table(
        self,
        name: str,
        columns: tuple[str, ...],
        *,
        title: str = "",
        key: str = "",
        broad: bool = False,
        chosen: Callable[[dict[str, Any]], None] | None = None,
    ) -> Any:
        """A card with a table whose rows :meth:`rows` sets.

        ``key``: the field that no two rows share and that stays a row's own while rows come and go; without one a
        row is its place. ``chosen``: what a click or Enter on a row does, where a row must have a key of its own.
        """
        assert key or chosen is None
        fields = [
            {"name": c, "label": self.w(c), "field": c, "align": "right" if c in RIGHT else "left",
             "classes": LONG.get(c, "")}
            for c in columns
        ]  # fmt: skip
        with ui.card().classes("panel broad" if broad else "panel"):
            ui.label(self.w(title or name)).classes("text-subtitle1")
            table = ui.table(columns=fields, rows=[], row_key=key or PLACE)
            table.props(f'flat dense id="table-{name}"').classes("w-full num")
            table.add_slot("no-data", f'<span class="pale">{self.w("none")}</span>')  # a word of our own
            if chosen is not None:
                table.classes("rows").on("rowClick", lambda e: chosen(e.args[1]))
        self.tables[name] = table
        return table

    def rows(self, name: str, rows: list[dict[str, Any]]) -> None:
        """A table's rows; nothing is sent where they are as before."""
        if self.changed(name, rows):
            self.tables[name].rows = [{PLACE: place, **row} for place, row in enumerate(rows)]

    def keep(
        self, parent: Any, shown: dict[Hashable, Any], wanted: Sequence[Hashable], make: Callable[[Any], Any]
    ) -> None:
        """What may be clicked, one element per key in ``shown``: those not ``wanted`` any more go, new ones are made.

        The others stay the elements that they are: the click on an element that was replaced meanwhile is lost.
        """
        for key in [key for key in shown if key not in wanted]:
            shown.pop(key).delete()
        with parent:
            for place, key in enumerate(wanted):
                if key not in shown:
                    shown[key] = make(key)
                    shown[key].move(target_index=place)

    def changed(self, name: str, value: Any) -> bool:
        """True where a value is another one than at the last call, which it then remembers."""
        if self._drawn.get(name) == value:
            return False
        self._drawn[name] = value
        return True

    def may_ask(self, title: str) -> bool:
        """True where a dialog may be opened: somebody is logged in, and it does not stand there already.

        The second of two clicks opens no second dialog over the first, and what is typed stays.
        """
        if self.view.present() is None:
            return False
        if self.view.dialog is not None:
            shown, dialog = self.view.dialog
            if not dialog.is_deleted and dialog.value:
                if shown == title:
                    dialog.update()  # should the browser have closed it and that was not heard
                    return False
                dialog.delete()
        return True

    @contextmanager
    def dialog(self, title: str, width: str = "w-96") -> Iterator[Any]:
        """A dialog that is gone once it is closed; of the page, not of whatever the click was in."""
        with self.view.floor, ui.dialog() as dialog, ui.card().classes(width):
            ui.label(title).classes("text-h6")
            yield dialog
        dialog.on("hide", dialog.delete)
        dialog.open()
        self.view.dialog = title, dialog
