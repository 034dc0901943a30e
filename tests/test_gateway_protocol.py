"""The wire format: its page is true, its frames survive nasty bytes."""

from __future__ import annotations

import contextlib
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.records import EVENT, NOTICE
from gateway import protocol as p
from gateway import protocol_page

PAGE = Path(__file__).resolve().parent.parent / "docs" / "protocol.md"


def test_the_page_says_what_the_code_says():
    text = PAGE.read_text("utf-8")
    assert protocol_page.fill(text) == text, "run python -m gateway.protocol_page docs/protocol.md"
    with pytest.raises(ValueError, match="cards"):
        protocol_page.fill(text.replace("<!-- end cards -->", ""))


def test_a_report_frame_comes_back_as_it_was():
    events = np.zeros(3, EVENT)
    events["kind"] = [1, NOTICE, 4]
    events["quantity"] = [100, 5, 7]
    frame = p.encode_reports(events, b"hello", 17, flags=p.CAUGHT_UP, received_ns=1, sent_ns=2)
    page = p.decode_reports(frame)
    assert (page.first_no, page.flags, page.received_ns, page.sent_ns, page.payloads) == (17, 2, 1, 2, b"hello")
    assert page.events.tobytes() == events.tobytes()


@pytest.mark.parametrize(
    ("kinds", "quantities", "payloads"),
    [
        ([1, NOTICE], [100, 5], b""),  # a notice whose payload is missing
        ([1, NOTICE], [100, 5], b"hell"),
        ([1, NOTICE], [100, 5], b"hello!"),
        ([NOTICE, NOTICE], [5, 1], b"hello"),
        ([1, 4], [100, 7], b"hello"),  # a payload of nobody's
    ],
)
def test_payloads_that_do_not_add_up_are_refused(kinds, quantities, payloads):
    events = np.zeros(2, EVENT)
    events["kind"], events["quantity"] = kinds, quantities
    with pytest.raises(ValueError, match="do not add up"):
        p.decode_reports(p.encode_reports(events, payloads, 1))


@settings(max_examples=300, deadline=None)
@given(st.binary(max_size=200))
def test_any_bytes_decode_or_fail_with_a_known_error(data):
    for decode, errors in ((p.decode_from_client, p.DECODE_ERRORS), (p.decode_reports, (ValueError,))):
        with contextlib.suppress(*errors):
            decode(data)


def test_deep_nesting_and_bad_utf8_are_the_senders_fault():
    for nasty in (b"\x91" * 5_000, b"\x81\xa1t\xa1\xff", b"\x81\xa1t\xa5login", b"\xdf\xff\xff\xff\xff"):
        with pytest.raises(p.DECODE_ERRORS):
            p.decode_from_client(nasty)
