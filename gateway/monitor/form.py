"""Forms of the page: what stands in the fields comes with the click, or the Enter key, that sends them.

An input also tells its letters one by one, but a connection that breaks between the last letter and the click loses
some, and before the page is connected they come in any order. A reason that goes into the journal must be what was
read before the click, and a field that lost its letters would mean "all" where empty does.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Collection
from typing import Any, Final

from nicegui import ui

# Fields of the card that was clicked in, and of no dialog that is just closing. Enter while a word is being composed
# (Pinyin) ends the word and sends nothing.
TYPED: Final = """event => event.isComposing || emit(Object.fromEntries(
    [...event.target.closest('.q-card').querySelectorAll('[id^="field-"]')].map(f => [f.id.slice(6), f.value])))"""

Act = Callable[[dict[str, str]], Awaitable[None]]  # what was typed, by field


def field(name: str, label: str, value: str = "", **options: Any) -> Any:
    """A field of a form, in a card; ``value``: what stands in it at first."""
    return ui.input(label, value=value, **options).classes("w-full").props(f'for="field-{name}"')


def sends(element: Any, event: str, names: Collection[str], act: Act) -> None:
    """Has an event of a button or field of the card bring exactly these fields to ``act``; anything else is ignored."""

    async def heard(e: Any) -> None:
        typed = e.args
        if isinstance(typed, dict) and typed.keys() == set(names):
            await act({name: str(value) for name, value in typed.items()})

    element.on(event, heard, js_handler=TYPED)
