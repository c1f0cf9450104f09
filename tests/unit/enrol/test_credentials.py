"""Credentials change in one step and are all there or not at all."""

from __future__ import annotations

from pathlib import Path

import pytest

from vigie.enrol import credentials, layout
from vigie.enrol.credentials import NotEnrolled
from vigie.host.boxconfig import Paths

BOX = "vg-abcdefghijklmnop"


def _paths(folder: Path) -> Paths:
    return Paths(trust=folder / "trust", state=folder / "state")


def _install(paths: Paths, mark: bytes) -> None:
    layout.install(paths, BOX, b"key " + mark, b"chain " + mark, "mqtt.vigie.lab", (8883, 443))


def test_no_set_is_not_enrolled(tmp_path: Path) -> None:
    with pytest.raises(NotEnrolled, match="vigie enrol status"):
        credentials.load(_paths(tmp_path))


def test_a_set_is_read_whole(tmp_path: Path) -> None:
    paths = _paths(tmp_path)
    _install(paths, b"1")
    found = credentials.load(paths)
    assert found.box_id == BOX and found.mqtt_host == "mqtt.vigie.lab" and found.mqtt_ports == (8883, 443)
    assert found.key_path.read_bytes() == b"key 1" and found.cert_chain_path.read_bytes() == b"chain 1"
    assert found.key_path.stat().st_mode & 0o777 == 0o640
    assert found.roots_path == tmp_path / "trust" / "roots.pem"


def test_the_set_before_outlives_one_renewal_and_no_more(tmp_path: Path) -> None:
    paths = _paths(tmp_path)
    _install(paths, b"1")
    first = credentials.load(paths)
    _install(paths, b"2")
    second = credentials.load(paths)
    assert second.generation != first.generation
    assert first.key_path.read_bytes() == b"key 1" and second.key_path.read_bytes() == b"key 2"
    _install(paths, b"3")
    assert not first.key_path.exists() and second.key_path.exists()
    assert credentials.load(paths).key_path.read_bytes() == b"key 3"


def test_a_set_cut_short_changes_nothing(tmp_path: Path) -> None:
    """Power lost before the rename: a half-written set lies there, and the old one is in force."""
    paths = _paths(tmp_path)
    _install(paths, b"1")
    half = paths.enrol / "set-2"
    half.mkdir()
    (half / credentials.KEY).write_bytes(b"half")
    assert credentials.load(paths).key_path.read_bytes() == b"key 1"
    _install(paths, b"2")
    assert credentials.load(paths).key_path.read_bytes() == b"key 2"


@pytest.mark.parametrize("name", [credentials.KEY, credentials.CHAIN, credentials.MQTT, credentials.BOX])
def test_a_missing_file_is_not_enrolled(tmp_path: Path, name: str) -> None:
    paths = _paths(tmp_path)
    _install(paths, b"1")
    (paths.enrol / credentials.CURRENT / name).unlink()
    with pytest.raises(NotEnrolled):
        credentials.load(paths)


@pytest.mark.parametrize(
    "text", ["[]", "{", '{"host": 1}', '{"host": "a.b", "ports": []}', '{"host": "a.b", "ports": [true]}']
)
def test_a_spoilt_broker_file_is_not_enrolled(tmp_path: Path, text: str) -> None:
    paths = _paths(tmp_path)
    _install(paths, b"1")
    (paths.enrol / credentials.CURRENT / credentials.MQTT).write_text(text)
    with pytest.raises(NotEnrolled):
        credentials.load(paths)


def test_ports_change_in_place_and_withdrawal_leaves_nothing(tmp_path: Path) -> None:
    paths = _paths(tmp_path)
    layout.set_ports(paths, "mqtt.vigie.lab", (443,))
    _install(paths, b"1")
    layout.set_ports(paths, "mqtt.vigie.lab", (443, 8883))
    assert credentials.load(paths).mqtt_ports == (443, 8883)
    layout.withdraw(paths)
    layout.withdraw(paths)
    with pytest.raises(NotEnrolled):
        credentials.load(paths)
    assert list(paths.enrol.iterdir()) == []


def test_a_doubt_is_heard_once_and_only_about_what_is_in_force(tmp_path: Path) -> None:
    paths = Paths(trust=tmp_path / "trust", state=tmp_path / "state", run=tmp_path / "run")
    credentials.doubt(paths, "set-1")
    assert not credentials.doubted(paths)  # nothing is in force
    _install(paths, b"1")
    credentials.doubt(paths, credentials.load(paths).generation)
    assert credentials.doubted(paths) and not credentials.doubted(paths)
    credentials.doubt(paths, credentials.load(paths).generation)
    _install(paths, b"2")
    assert not credentials.doubted(paths)
