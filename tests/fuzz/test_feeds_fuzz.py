"""Any bytes given as a feed: a result or a refusal, never another exception, and nothing unchecked in the columns."""

from __future__ import annotations

import ipaddress
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from vigie.contract.codes import Action, Category, Direction
from vigie.errors import FeedError
from vigie.filter.base import lists, protect
from vigie.filter.base.columns import Feed
from vigie.filter.base.feeds import FeedRefused, feed_set, parse_feed, read_feed
from vigie.filter.base.readers import FORMATS
from vigie.filter.base.readers.options import Options
from vigie.filter.base.readers.source import Text
from vigie.filter.base.readers.tokens import LOWER_NAME, MAX_NAME, Range, classify, name

SAMPLES = Path(__file__).parents[1] / "data" / "feeds"
SEEDS = [path.read_bytes() for path in sorted(SAMPLES.iterdir()) if path.suffix not in (".md", ".yaml")]
FEED = Feed("fuzz", Category.MALWARE, Direction.BOTH, Action.BLOCK, "fuzz", False)
PROTECTION = protect.build(lists.built_in(), lists.never_block())

TOKEN = st.one_of(
    st.ip_addresses().map(str),
    st.builds(lambda a, n: f"{a}/{n}", st.ip_addresses(), st.integers(0, 140)),
    st.builds(lambda a, p: f"{a}:{p}", st.ip_addresses(v=4), st.integers(-1, 70000)),
    st.builds(lambda a, b: f"{a}-{b}", st.ip_addresses(), st.ip_addresses()),
    st.from_regex(r"[a-zA-Z0-9._-]{1,40}", fullmatch=True),
    st.from_regex(r"(\|\||@@|/|http://|0\.0\.0\.0 )[a-z0-9./:^$-]{0,30}", fullmatch=True),
    st.text(max_size=30),
)
SEPARATOR = st.sampled_from(["\n", "\r\n", "\t", ",", ";", " ", "#", "|", '"', "\x00", "\u2028"])


@st.composite
def mutated(draw: st.DrawFn) -> bytes:
    """A sample with a few bytes changed, cut or doubled."""
    data = bytearray(draw(st.sampled_from(SEEDS)))
    for _ in range(draw(st.integers(1, 6))):
        at = draw(st.integers(0, len(data)))
        data[at : at + draw(st.integers(0, 8))] = draw(st.binary(max_size=8))
    return bytes(data)


@st.composite
def lines(draw: st.DrawFn) -> bytes:
    """Tokens of every kind between separators of every kind."""
    parts = draw(st.lists(st.tuples(TOKEN, SEPARATOR), max_size=40))
    return "".join(a + b for a, b in parts).encode("utf-8", "surrogatepass")


CONTENT = st.one_of(st.binary(max_size=400), lines(), mutated())


def check(data: bytes, options: Options) -> None:
    try:
        entries, report = parse_feed(FEED, Path("fuzz"), Text(data), options)
    except FeedRefused as refusal:
        assert str(refusal)
        return
    entries.check()
    assert len(entries) == report.tally.good
    for one in entries.names:
        assert len(one) <= MAX_NAME
        assert LOWER_NAME.fullmatch(one)
    top = max(report.tally.lines, 1)
    for column in (entries.v4_line, entries.v6_line, entries.name_line):
        assert ((column >= 1) & (column <= top)).all()
    report.to_json()
    kept, taken = protect.protect(FEED, entries, PROTECTION)
    kept.check()
    assert all(one.line <= top and one.by for one in taken)
    for special in lists.built_in().special:
        if special.range.family == 4:
            assert not ((kept.v4_first <= special.range.last) & (kept.v4_last >= special.range.first)).any()


@settings(deadline=None, max_examples=300, suppress_health_check=[HealthCheck.too_slow, HealthCheck.large_base_example])
@given(CONTENT, st.sampled_from(["", *FORMATS]))
def test_any_bytes_any_format(data: bytes, form: str) -> None:
    check(data, Options(format=form, max_bad=1.0))


@settings(deadline=None, max_examples=100)
@given(CONTENT)
def test_any_file(tmp_path_factory: pytest.TempPathFactory, data: bytes) -> None:
    path = tmp_path_factory.mktemp("fuzz") / "feed"
    for head in (b"", b"\x1f\x8b", b"\xfd7zXZ\x00"):
        path.write_bytes(head + data)
        try:
            read_feed(FEED, path, Options(max_bytes=10_000))
        except FeedError as error:
            assert str(error)


@settings(deadline=None, max_examples=100)
@given(st.one_of(st.binary(max_size=200), st.text(max_size=200).map(lambda t: t.encode("utf-8", "surrogatepass"))))
def test_any_feed_set(tmp_path_factory: pytest.TempPathFactory, data: bytes) -> None:
    path = tmp_path_factory.mktemp("fuzz") / "set.yaml"
    path.write_bytes(b"version: 1\nfeeds:\n" + data)
    try:
        feed_set(path)
    except FeedError as error:
        assert str(error)


@settings(deadline=None, max_examples=1000)
@given(TOKEN)
def test_tokens_agree_with_ipaddress(token: str) -> None:
    what = classify(token)
    try:
        net = ipaddress.ip_network(token, strict=False)
    except ValueError:
        net = None
    if net is not None and "%" not in token and net.prefixlen >= 8:
        assert isinstance(what, Range), token
        if what.family == net.version:
            assert (what.first, what.last) == (int(net.network_address), int(net.broadcast_address))
    if isinstance(what, str):
        assert name(what) == what


@settings(deadline=None, max_examples=300)
@given(st.lists(TOKEN.filter(lambda t: "\n" not in t and "\r" not in t), min_size=1, max_size=30))
def test_fast_path_equals_the_slow_one(tokens: list[str]) -> None:
    """A plain list read whole gives what its tokens give one by one."""
    data = "\n".join(tokens).encode("utf-8", "surrogatepass")
    try:
        entries, _ = parse_feed(FEED, Path("fuzz"), Text(data), Options(format="plain", max_bad=1.0))
    except FeedRefused:
        return
    found = set(zip(entries.v4_first.tolist(), entries.v4_last.tolist(), entries.v4_port.tolist(), strict=True))
    clean = [token.strip() for token in tokens if not any(c in token for c in "#;!") and "//" not in token]
    for token in clean:
        what = classify(token) if token else None
        if isinstance(what, Range) and what.family == 4:
            assert (what.first, what.last, what.port) in found, token
