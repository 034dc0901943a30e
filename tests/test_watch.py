"""`cea watch` and `cea book` live: what the picture shows, the keys, and both through a real terminal."""

from __future__ import annotations

import fcntl
import io
import os
import pty
import re
import select
import signal
import struct
import subprocess
import sys
import termios
import time
from types import SimpleNamespace

import gateway_market as gm
import pytest
from msgspec.structs import replace
from rich.console import Console

from cea.watching import Picture, keys, lines_of, pressed
from gateway.client import Client
from gateway.market_data import BookBuilder, BookSnapshot, BookUpdate, Bulletin, Composite, Statistics, Trade
from gateway.operator import OperatorClient

TEN = gm.DAY + 10 * gm.HOUR
STATISTICS = Statistics(5_950, 5_960, 5_940, 5_955, 1_200, 7_146_000, 3, 5_991, 5_392, 6_590)


def feed_of(*codes: str) -> SimpleNamespace:
    books = {code: BookBuilder(code) for code in codes}
    for book in books.values():
        levels = tuple((5_950 - n, 100 * (n + 1), n + 1) for n in range(5))
        asks = tuple((5_960 + n, 50 * (n + 1), 1) for n in range(3))
        book.take_snapshot(
            BookSnapshot(code=book.code, epoch=1, seq=1, time_ns=TEN, bids=levels, asks=asks, statistics=STATISTICS)
        )
    return SimpleNamespace(books=books)


def deal(code: str, price: int, quantity: int = 10) -> BookUpdate:
    trade = Trade(price, quantity, TEN, 1, 0)
    return BookUpdate(code=code, epoch=1, seq=2, time_ns=TEN, bids=(), asks=(), trades=(trade,))


def screen(picture: Picture, feed: SimpleNamespace, width: int, height: int = 30, *, tape: bool = True) -> list[str]:
    out = Console(file=io.StringIO(), width=width, height=height, force_terminal=False)
    out.print(picture.draw(feed, width, height, tape=tape))
    return out.file.getvalue().splitlines()


@pytest.mark.parametrize("width", [60, 80, 100, 124, 160, 220])
def test_the_picture_fits_any_width_with_best_prices_and_deals(width):
    feed, picture = feed_of("CEA23", "CEA24"), Picture(["CEA23", "CEA24"], "CEA24")
    for n in range(40):
        picture.take(deal("CEA24", 5_940 + n, 1_234))
    rows = screen(picture, feed, width)
    text = "\n".join(rows)
    assert max(map(len, rows)) <= width and len(rows) <= 30
    for word in ("59.50", "59.60", "59.79", "1,234", "CEA24"):
        assert word in text


def test_keys_change_the_vintage_the_filter_and_end_it():
    picture = Picture(["A", "B", "C"])
    for key, code in (
        ("next", "B"),
        ("next", "C"),
        ("next", "A"),
        ("previous", "C"),
        ("2", "B"),
        ("9", "B"),
        ("?", "B"),
    ):
        picture.key(key)
        assert picture.code == code
    feed = feed_of("A", "B", "C")
    for code in "ABC":
        picture.take(deal(code, 7_000 + ord(code)))
    assert "70.65" in "\n".join(screen(picture, feed, 100))
    picture.key("a")
    only = "\n".join(screen(picture, feed, 100))
    assert "70.65" not in only and "70.66" in only
    picture.key(" ")
    assert picture.held and "HELD" in "\n".join(screen(picture, feed, 100))
    assert not picture.ended
    picture.key("q")
    assert picture.ended


def test_a_feed_that_falls_silent_is_told(monkeypatch):
    now = [100.0]
    monkeypatch.setattr("cea.watching.time.monotonic", lambda: now[0])
    feed, picture = feed_of("A"), Picture(["A"])
    picture.take(deal("A", 5_955))
    assert "NOTHING HEARD" not in "\n".join(screen(picture, feed, 100, tape=False))
    now[0] += 4
    assert "NOTHING HEARD FOR 4 s" in "\n".join(screen(picture, feed, 100, tape=False))


def test_composite_and_notices_are_shown_and_said_in_lines():
    picture = Picture(["A"])
    composite = Composite(epoch=1, seq=1, time_ns=TEN, open=1, high=2, low=1, last=5_977, close=0, previous=5_975)
    notice = {"t": "market_notice", "what": "halt", "instrument": "A", "text": "why"}
    bulletin = Bulletin(epoch=1, seq=2, time_ns=TEN, notice=notice)
    for message in (composite, bulletin):
        picture.take(message)
    text = "\n".join(screen(picture, feed_of("A"), 100))
    assert "COMCEA 59.77" in text and "halt A why" in text
    assert lines_of(bulletin)[0].endswith("market_notice: halt A why")
    assert lines_of(deal("A", 5_955)) and not lines_of(
        BookUpdate(code="A", epoch=1, seq=3, time_ns=TEN, bids=(), asks=())
    )


def test_the_busiest_vintage_is_shown_until_somebody_chooses():
    feed, picture = feed_of("A", "B", "C"), Picture(["A", "B", "C"])
    for book in feed.books.values():
        book.statistics = replace(STATISTICS, volume=0)
    screen(picture, feed, 100)
    assert picture.code == "A" and not picture.chosen, "nothing was dealt yet"
    feed.books["B"].statistics = STATISTICS
    screen(picture, feed, 100)
    assert picture.code == "B"
    feed.books["C"].statistics = replace(STATISTICS, volume=9_999_999)
    screen(picture, feed, 100)
    assert picture.code == "B", "it does not jump while somebody reads"
    other = Picture(["A", "B", "C"])
    other.key("next")
    other.key("previous")
    screen(other, feed, 100)
    assert other.code == "A"


def test_arrows_are_keys_and_a_terminal_that_goes_away_ends_it():
    ours, theirs = os.openpty()
    termios_before = termios.tcgetattr(theirs)
    termios_before[3] &= ~termios.ICANON
    termios.tcsetattr(theirs, termios.TCSANOW, termios_before)
    os.write(ours, b"\x1b[C2\x1b[Aq\t")
    assert pressed(theirs) == ["next", "2", "previous", "q", "next"]
    assert pressed(theirs) == []
    os.close(ours)
    os.close(theirs)
    read, write = os.pipe()
    os.close(write)
    assert pressed(read) == ["q"]
    os.close(read)


def test_without_a_terminal_to_type_on_nobody_presses_a_key(monkeypatch):
    monkeypatch.setattr(sys, "stdin", io.StringIO("q"))
    with keys() as read_keys:
        assert read_keys() == []


class Terminal:
    """A `cea` on a pseudo-terminal of its own."""

    def __init__(self, *words: str, columns: int = 130) -> None:
        self.ours, self.theirs = pty.openpty()
        self.resize(columns)
        self.before = termios.tcgetattr(self.theirs)
        env = {**os.environ, "TERM": "xterm-256color", "PYTHONPATH": str(gm.ROOT)}
        self.process = subprocess.Popen(
            [sys.executable, "-m", "cea.main", *words],
            stdin=self.theirs, stdout=self.theirs, stderr=self.theirs, env=env, start_new_session=True,
        )  # fmt: skip
        self.text = ""

    def resize(self, columns: int, rows: int = 32) -> None:
        fcntl.ioctl(self.theirs, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))

    def sees(self, pattern: str, seconds: float = gm.PATIENCE_S) -> bool:
        """Waits until something new matches; what was seen before counts no more."""
        ends = time.monotonic() + seconds
        while time.monotonic() < ends:
            if re.search(pattern, self.text):
                self.text = ""
                return True
            if select.select([self.ours], [], [], 0.1)[0]:
                self.text += re.sub(
                    r"\x1b\[[0-9;?]*[a-zA-Z]", "", os.read(self.ours, 1 << 16).decode("utf-8", "replace")
                )
        return False

    def type(self, text: str) -> None:
        os.write(self.ours, text.encode())

    def end(self) -> int:
        """Waits for its end, taking what it still writes; the exit code."""
        ends = time.monotonic() + gm.PATIENCE_S
        while self.process.poll() is None and time.monotonic() < ends:
            if select.select([self.ours], [], [], 0.1)[0]:
                os.read(self.ours, 1 << 16)
        try:
            return self.process.wait(1)
        finally:
            assert termios.tcgetattr(self.theirs) == self.before, "the terminal was not put back"
            os.close(self.ours)
            os.close(self.theirs)


@pytest.mark.slow
def test_watch_and_book_follow_a_running_exchange_on_a_terminal(tmp_path):
    folder = tmp_path / "m"
    gm.make(folder)
    with gm.running(folder), OperatorClient(folder, key=str(folder / "keys" / "ops1.key")) as ops:
        gm.fund(ops)
        with (
            Client(folder, key=str(folder / "keys" / "member-1.key")) as one,
            Client(folder, key=str(folder / "keys" / "member-2.key")) as two,
        ):
            one.buy("CEA24", "59.00", 500)
            watch = Terminal("watch", "-m", str(folder))
            assert watch.sees(r"CEA23[\s\S]*CEA24[\s\S]*COMCEA")
            watch.type("2")
            assert watch.sees(r"\[2 CEA24|59\.00")
            # one of them comes behind its subscription
            assert gm.wait_until(lambda: (two.sell("CEA24", "59.00", 3), watch.sees(r"59\.00 +3 ", 2))[1])
            watch.resize(70)
            watch.process.send_signal(signal.SIGWINCH)
            one.buy("CEA24", "59.01", 44)
            assert watch.sees(r"44 +59\.01")
            watch.type("q")
            assert watch.end() == 0
            late = Terminal("watch", "-m", str(folder))
            assert late.sees(r"COMCEA +\d+\.\d\d"), "the composite, although nothing has changed since"
            late.type("q")
            assert late.end() == 0
            book = Terminal("book", "CEA24", "-m", str(folder), columns=100)
            assert book.sees(r"59\.01")
            one.buy("CEA24", "59.02", 55)
            assert book.sees(r"55 +59\.02")
            os.killpg(book.process.pid, signal.SIGINT)
            assert book.end() == 0
