"""Messages of every kind, drawn at random within the contract."""

from __future__ import annotations

from hypothesis import strategies as st

from vigie.contract.codes import Category, DeviceClass, Direction
from vigie.contract.envelope import Upward
from vigie.contract.upward import (
    HOUR_S,
    Ack,
    Alert,
    BaseInForce,
    Body,
    Consent,
    DesiredInForce,
    Diagnostic,
    Metric,
    Offline,
    Request,
    State,
)
from vigie.contract.words import Clock, Code, DesiredStatus, FilterHealth, Inbound, Kind, Order, Result, Rule

COUNT = st.integers(0, 2**53 - 1)
TIME = st.integers(0, 2**40)
BOX = st.text("abcdefghijklmnopqrstuvwxyz234567", min_size=16, max_size=16).map("vg-".__add__)
HEX32 = st.text("0123456789abcdef", min_size=32, max_size=32)
DEVICE = st.text("0123456789abcdef", min_size=16, max_size=16).map("d-".__add__)
INDICATOR = st.from_regex(r"[0-9a-z_.:/-]{1,60}", fullmatch=True)
TEXT = st.text(st.characters(exclude_categories=["Cs", "Cc"], include_characters="\n\t"), max_size=200)
ITEM = st.from_regex(r"[a-z][a-z0-9-]{0,20}", fullmatch=True)
VERSION = st.integers(1, 2**53 - 1)

STATES = st.builds(
    State,
    session=st.integers(1, 2**40),
    version=st.from_regex(r"[0-9A-Za-z.+~-]{1,40}", fullmatch=True),
    base=st.none() | st.builds(BaseInForce, VERSION, st.integers(0, 10_000_000)),
    candidate=st.none() | VERSION,
    desired=st.builds(DesiredInForce, COUNT, st.sampled_from(DesiredStatus), st.none() | st.sampled_from(Code)),
    isolation=st.integers(0, 3),
    quarantined=st.integers(0, 100_000),
    exceptions=st.integers(0, 100_000),
    inbound=st.sampled_from(Inbound),
    filter=st.sampled_from(FilterHealth),
    uptime_s=COUNT,
    disk_free_mb=COUNT,
    mem_free_mb=COUNT,
    load=st.floats(0, 1000),
    roles_known=st.booleans(),
    losses=COUNT,
)


@st.composite
def alerts(draw: st.DrawFn) -> Alert:
    incident = draw(st.booleans())
    first, last = sorted((draw(TIME), draw(TIME)))
    if not incident:
        first, last = first // HOUR_S * HOUR_S, last // HOUR_S * HOUR_S
    return Alert(
        id=draw(st.integers(1, 2**53 - 1)),
        rule=draw(st.sampled_from(Rule)),
        reason=draw(st.integers(0, 127)),
        severity=draw(st.integers(0, 3)),
        category=draw(st.sampled_from(Category)),
        direction=draw(st.sampled_from(Direction)),
        indicator=draw(st.none() | INDICATOR),
        device=draw(st.none() | DEVICE),
        device_class=draw(st.sampled_from(DeviceClass)),
        count=draw(st.integers(1, 2**53 - 1)),
        first=first,
        last=last,
        incident=incident,
    )


@st.composite
def metrics(draw: st.DrawFn) -> Metric:
    candidate = draw(st.none() | VERSION)
    return Metric(
        hour=draw(st.integers(0, 2**40 // 3600)),
        blocked=draw(st.dictionaries(st.integers(0, 127).map(str), COUNT, max_size=5)),
        observed=draw(st.dictionaries(INDICATOR, COUNT, max_size=5)) if candidate else {},
        candidate=candidate,
        frames_in=draw(COUNT),
        frames_out=draw(COUNT),
        drops=draw(COUNT),
    )


DETAIL = st.from_regex(r"([a-z_]{1,12}(\[[0-9]{1,3}\])?:)?[a-z][a-z0-9-]{0,20}", fullmatch=True)
_HOW = {
    "result": st.sampled_from(Result),
    "code": st.none() | st.sampled_from(Code),
    "detail": st.lists(DETAIL, max_size=4).map(tuple),
}
ACKS = st.builds(Ack, order=st.just(Order.DESIRED), id=COUNT, **_HOW) | st.builds(
    Ack, order=st.just(Order.COMMAND), id=HEX32 | st.just(""), **_HOW
)
CONSENT = st.builds(Consent, TIME)
REQUESTS = st.builds(
    Request, indicator=INDICATOR, device=st.none() | DEVICE, days=st.integers(1, 366), words=TEXT, consent=CONSENT
)
DIAGNOSTICS = st.builds(Diagnostic, command=HEX32, consent=CONSENT, items=st.dictionaries(ITEM, TEXT, max_size=4))
BODIES: st.SearchStrategy[Body] = (
    STATES | st.builds(Offline, st.integers(1, 2**40)) | alerts() | metrics() | ACKS | REQUESTS | DIAGNOSTICS
)


@st.composite
def messages(draw: st.DrawFn) -> Upward:
    body = draw(BODIES)
    seq = draw(st.integers(1, 2**53 - 1))
    prev = None if body.KIND is Kind.STATE else draw(st.integers(0, seq - 1))
    return Upward(draw(HEX32), seq, draw(TIME), draw(st.sampled_from(Clock)), body, prev)
