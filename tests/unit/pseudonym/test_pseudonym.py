"""Names of devices outside the commune, and the clock in service that turns them."""

from __future__ import annotations

import hashlib
import hmac
import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vigie.contract.identity import PSEUDONYM
from vigie.errors import HostError
from vigie.filter import pseudonym
from vigie.filter.pseudonym import LIFE_S, Pseudonyms, SaltFileError, Salts, dump, parse
from vigie.filter.service_clock import SAVE_S, ServiceClock

MAC, OTHER = "02:00:00:00:00:01", "02:00:00:00:00:02"
macs = st.binary(min_size=6, max_size=6).map(lambda raw: raw.hex(":"))


def test_a_name_is_hmac_of_the_mac(tmp_path: Path) -> None:
    names = Pseudonyms(tmp_path / "p.json", 0.0)
    salt = bytes.fromhex(json.loads((tmp_path / "p.json").read_text())["current"])
    expected = "d-" + hmac.new(salt, bytes.fromhex(MAC.replace(":", "")), hashlib.sha256).hexdigest()[:16]
    assert len(salt) == 32 and names.name(MAC) == expected
    assert (tmp_path / "p.json").stat().st_mode & 0o777 == 0o600


@given(st.sets(macs, min_size=2, max_size=40))
def test_names_tell_devices_apart_and_lead_back(found: set[str]) -> None:
    salts = Salts.fresh(0.0)
    told = {salts.name(mac): mac for mac in found}
    assert len(told) == len(found) and all(PSEUDONYM.fullmatch(name) for name in told)
    assert salts.resolve(set(told), found) == told and salts.resolve(set(), found) == {}
    assert all(mac.replace(":", "") not in name for name, mac in told.items())


def test_two_boxes_have_different_names(tmp_path: Path) -> None:
    one, two = (Pseudonyms(tmp_path / name, 0.0) for name in ("one.json", "two.json"))
    assert one.name(MAC) != two.name(MAC)
    assert one.resolve({two.name(MAC) or ""}, [MAC, OTHER]) == {}


def test_no_device_no_name(tmp_path: Path) -> None:
    names = Pseudonyms(tmp_path / "p.json", 0.0)
    assert names.name("") is None and names.name("00:00:00:00:00:00") is None


def test_the_month_of_a_salt_and_the_one_after(tmp_path: Path) -> None:
    path = tmp_path / "p.json"
    names = Pseudonyms(path, 100.0)
    first = names.name(MAC)
    assert first is not None and not names.turn(100.0 + LIFE_S - 1)
    assert names.turn(100.0 + LIFE_S)
    second = names.name(MAC)
    assert second not in (None, first)
    assert names.resolve({first}, [OTHER, MAC]) == {first: MAC}
    again = Pseudonyms(path, 100.0 + LIFE_S)
    assert again.name(MAC) == second and again.resolve({first}, [MAC]) == {first: MAC}
    assert again.turn(100.0 + 2 * LIFE_S)
    assert again.resolve({first, second or ""}, [MAC]) == {second: MAC}


def test_a_restart_long_after_turns_once(tmp_path: Path) -> None:
    path = tmp_path / "p.json"
    first = Pseudonyms(path, 0.0).name(MAC)
    later = Pseudonyms(path, 10 * LIFE_S)
    assert later.name(MAC) != first and not later.turn(10 * LIFE_S + 1)
    assert later.resolve({first or ""}, [MAC]) == {first: MAC}


@pytest.mark.parametrize(
    "data", [b"", b"{}", b"[]", b'{"format": 2}', b'{"format":1,"current":"00","since":0,"previous":""}']
)
def test_a_spoilt_file(tmp_path: Path, data: bytes) -> None:
    path = tmp_path / "p.json"
    with pytest.raises(SaltFileError):
        parse(data, path)
    path.write_bytes(data)
    names = Pseudonyms(path, 0.0)
    assert "p.json" in names.problem and names.name(MAC)
    assert Pseudonyms(path, 0.0).name(MAC) == names.name(MAC), "the new one is kept"


def test_a_disk_that_fails_keeps_the_names_until_it_is_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_args: object) -> None:
        raise HostError("no room")

    monkeypatch.setattr(pseudonym, "write_atomic", full)
    names = Pseudonyms(tmp_path / "p.json", 0.0)
    name = names.name(MAC)
    assert names.problem == "no room" and not names.turn(1.0)
    monkeypatch.undo()
    names.turn(2.0)
    assert Pseudonyms(tmp_path / "p.json", 3.0).name(MAC) == name


def test_round_trip() -> None:
    salts = Salts.fresh(5.0).turned(5.0 + LIFE_S)
    assert parse(dump(salts), Path("x")) == salts


# ---- seconds in service --------------------------------------------------------------------------------------------


def test_service_goes_on_over_a_restart_and_stands_still_while_off(tmp_path: Path) -> None:
    path = tmp_path / "service.json"
    clock = ServiceClock(path, 500.0, "a")
    assert clock.at(500.0) == 0 and clock.at(600.0) == 100
    clock.save(600.0, now=True)
    assert ServiceClock(path, 700.0, "a").at(700.0) == 200  # the daemon was away, the box was not
    assert ServiceClock(path, 30.0, "b").at(40.0) == 110  # off: only what was saved
    assert ServiceClock(path, 30.0, "").at(30.0) == 100  # a kernel without a boot id: as if it were off


def test_service_is_saved_now_and_then(tmp_path: Path) -> None:
    path = tmp_path / "service.json"
    clock = ServiceClock(path, 0.0, "a")
    clock.save(1.0)
    before = path.read_bytes()
    clock.save(SAVE_S)
    assert path.read_bytes() == before
    clock.save(SAVE_S + 2)
    assert path.read_bytes() != before


def test_service_never_goes_back_behind_what_is_on_record(tmp_path: Path) -> None:
    clock = ServiceClock(tmp_path / "service.json", 10.0, "a")
    clock.not_before(10.0, 500.0)
    assert clock.at(11.0) == 501
    clock.not_before(12.0, 20.0)
    assert clock.at(12.0) == 502


@given(
    st.one_of(
        st.binary(max_size=60),
        st.sampled_from([b'{"seconds": -5}', b'{"seconds": true, "mono": 1e300}', b'{"seconds": "x"}']),
    )
)
def test_a_spoilt_service_file_is_none(tmp_path_factory: pytest.TempPathFactory, data: bytes) -> None:
    path = tmp_path_factory.mktemp("s") / "service.json"
    path.write_bytes(data)
    assert ServiceClock(path, 5.0, "a").at(5.0) == 0


def test_a_salt_does_not_outlive_a_lost_clock(tmp_path: Path) -> None:
    """Two years of service on record, and a clock that begins at 0 again: the salt has a month left, not two years."""
    path = tmp_path / "p.json"
    pseudonym.save(path, Salts.fresh(2 * 365 * 86_400.0))
    names = Pseudonyms(path, 5.0)
    first = names.name(MAC)
    assert not names.turn(LIFE_S) and Pseudonyms(path, LIFE_S).name(MAC) == first
    assert names.turn(5.0 + LIFE_S) and names.name(MAC) != first
