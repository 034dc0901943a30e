"""Reading with two hands: one job is done here while another is done beside, by whatever the caller has for that.

The journal knows no threads. Who opens it may give it a ``Beside`` (the gateway: a thread); without one everything
happens here, in the same order and with the same results.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from functools import partial
from typing import Final, Generic, TypeVar, cast

T = TypeVar("T")

# Has a piece of work done elsewhere, once; what it returns waits until that has happened.
Beside = Callable[[Callable[[], None]], Callable[[], None]]


def at_once(work: Callable[[], None]) -> Callable[[], None]:
    """The ``Beside`` of who has none: the work is done here and now."""
    work()
    return lambda: None


# A job is called with its lane, so that each lane may read into memory of its own.
Job = Callable[[int], T]
HERE: Final = 0
LANES: Final = 2


class Errand(Generic[T]):
    """A piece of work given away."""

    def __init__(self, beside: Beside, work: Callable[[], T]) -> None:
        self._work = work
        self._found: T | None = None
        self._error: BaseException | None = None
        self._ended = False  # set by the work, last
        self._wait: Callable[[], None] = beside(self._run)

    def _run(self) -> None:
        try:
            self._found = self._work()
        except BaseException as error:  # whatever it is, it is the caller's, who asks for the result
            self._error = error
        finally:
            self._ended = True

    @property
    def ended(self) -> bool:
        """Whether the result is there."""
        return self._ended

    def wait(self) -> None:
        """Returns when the work has ended, whatever came of it. May be called again."""
        self._wait()
        assert self._ended, "who was given the work has done it"

    def result(self) -> T:
        """What the work gave; raises what it raised."""
        self.wait()
        if self._error is not None:
            raise self._error
        return cast(T, self._found)


def in_pairs(jobs: Sequence[Job[T]], beside: Beside | None) -> Generator[T, None, None]:
    """The results of all jobs in order, for a caller that does little with them: every other one is done beside.

    What the two jobs of a pair keep in their lanes stays until the first result of the next pair is asked for.
    """
    for first in range(0, len(jobs), 2):
        second = jobs[first + 1] if first + 1 < len(jobs) else None
        errand = Errand(beside, partial(second, 1)) if beside is not None and second is not None else None
        try:
            yield jobs[first](HERE)
            if errand is not None:
                yield errand.result()
            elif second is not None:
                yield second(1)
        finally:  # also where the caller goes away in between: nobody works on for nobody
            if errand is not None:
                errand.wait()


def ahead(jobs: Sequence[Job[T]], beside: Beside | None) -> Generator[T, None, None]:
    """The same for a caller that does much with each result: the next one is made beside it, in the other lane.

    Without ``beside`` all are done in one lane. What a lane keeps stays until the next result is asked for.
    """
    errand: Errand[T] | None = None
    try:
        for number, job in enumerate(jobs):
            found = job(HERE) if errand is None else errand.result()
            errand = None
            if beside is not None and number + 1 < len(jobs):
                errand = Errand(beside, partial(jobs[number + 1], (number + 1) % LANES))
            yield found
    finally:
        if errand is not None:
            errand.wait()
