"""Configuration: defaults need no file, each mistake names its line."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vigie.errors import ConfigError
from vigie.filter.config import BoxPort, Config, load, parse


def test_defaults_need_no_file() -> None:
    config = load(None)
    assert config == Config()
    assert config.hold.ms == 300 and config.isolation.hours == 4 and config.inbound.mode == "learn"
    assert config.ports is None


def test_empty_file_is_the_defaults(tmp_path: Path) -> None:
    path = tmp_path / "vigie.yaml"
    path.write_text("# nothing\n")
    assert load(path) == Config()


def test_every_key_is_read() -> None:
    config = parse(
        """
ports: [lan0, wan0]
bridge: br1
early_loader: true
socket: /run/x.sock
journal: {path: /data/j.db, max_rows: 5000, max_bytes: 2000000, keep_days: 7}
page_ports: [80/tcp, 5353/udp]
inbound: {mode: off, learning_days: 0.5}
rates: {refuse_out: 7, events: {dns: 3}}
hold: {enabled: no, ms: 100}
isolation: {hours: 1}
loop: {interval_ms: 100, reopen_s: 2.5}
""",
        "x.yaml",
    )
    assert config.ports == ("lan0", "wan0") and config.bridge == "br1" and config.early_loader
    assert config.journal.max_rows == 5000 and config.journal.path == Path("/data/j.db")
    assert config.page_ports == (BoxPort(6, 80), BoxPort(17, 5353))
    assert config.inbound.mode == "off" and config.inbound.learning_days == 0.5
    assert config.rates.events["dns"] == 3 and config.rates.events["blocked"] == 500 and config.rates.refuse_out == 7
    assert not config.hold.enabled and config.isolation.hours == 1.0 and config.loop.reopen_s == 2.5


@pytest.mark.parametrize(
    ("text", "line", "words"),
    [
        ("bridge: br0\nbrigde: br1\n", 2, "unknown key `brigde`"),
        ("hold:\n  enabled: true\n  mss: 3\n", 3, "unknown key `hold.mss`"),
        ("hold:\n  ms: fast\n", 2, "`hold.ms` must be a whole number"),
        ("hold:\n  ms: 301\n", 2, "between 10 and 300"),
        ("hold: 300\n", 1, "`hold` must be a mapping"),
        ("early_loader: 1\n", 1, "true or false"),
        ("journal:\n  max_rows: true\n", 2, "a whole number"),
        ("\n\nports: [a]\n", 3, "exactly two"),
        ("ports: [a, a]\n", 1, "twice"),
        ("ports: [a, 'b/c']\n", 1, "not the name of a network interface"),
        ("socket: run/x\n", 1, "absolute path"),
        ("socket: [x]\n", 1, "not a list"),
        ("page_ports:\n  - 80/tcp\n  - 99999/tcp\n", 3, "99999/tcp"),
        ("page_ports: [80]\n", 1, "a port such as"),
        ("inbound:\n  mode: maybe\n", 2, "one of learn, refuse, off"),
        ("inbound:\n  mode: on\n", 2, "one of learn, refuse, off"),
        ("rates:\n  events:\n    blocks: 3\n", 3, "unknown event kind `blocks`"),
        ("rates:\n  events:\n    dns: -1\n", 3, "between"),
        ("bridge: a\nbridge: b\n", 2, "given twice"),
        ("[1, 2]\n", 1, "must be a mapping"),
        ("a: b\n c: d\n", 2, "not valid YAML"),
        ("? [a]\n: b\n", 1, "must be a word"),
        ("bridge: !!python/object:os.system x\n", 1, "interface"),
    ],
)
def test_mistakes_name_file_and_line(text: str, line: int, words: str) -> None:
    with pytest.raises(ConfigError) as caught:
        parse(text, "box.yaml")
    assert str(caught.value).startswith(f"box.yaml:{line}: "), str(caught.value)
    assert words in str(caught.value)


def test_missing_and_oversize_files_are_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"absent\.yaml"):
        load(tmp_path / "absent.yaml")
    big = tmp_path / "big.yaml"
    big.write_bytes(b"#" * 70_000)
    with pytest.raises(ConfigError, match="larger than"):
        load(big)


@given(st.text(max_size=200))
def test_any_text_is_a_configuration_or_a_named_error(text: str) -> None:
    try:
        parse(text, "f.yaml")
    except ConfigError as e:
        assert "f.yaml" in str(e)
