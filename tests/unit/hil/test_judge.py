"""What `make hil` makes of a board's words."""

from __future__ import annotations

import copy
from typing import Any

import pytest

from hil import probes, relay
from hil.judge import JUDGES, Probes, Seen, Verdict, judge, line
from vm.expectations import EXPECTATIONS

GOOD: dict[str, Any] = {
    "version": "1.0",
    "variant": "cm4",
    "kernel": "6.12",
    "boot": "aa",
    "chip": "0badcafe",
    "slot": "A",
    "verity": True,
    "root_fs": "erofs",
    "root_ro": True,
    "early": {"base": True, "at": 4.2},
    "heartbeat": {"base": 7, "attached": True},
    "bridge": {"eth0": 3, "eth1": 3},
    "first_python": [6.1, "vigie-filter.service"],
    "filter_s": 9.0,
    "enrol": {"code": "member"},
    "failed_units": [],
    "selftest": {"passed": True, "sentence": "ok"},
    "baked_base": 2,
}
AGAIN = GOOD | {"boot": "bb"}
RUN = Seen(GOOD, AGAIN, again_by="a power cut", probes=Probes(True, True, 0))


def verdicts(seen: Seen) -> dict[str, Verdict]:
    return {found.name: found.verdict for found in judge(seen)}


def test_every_expectation_of_the_virtual_board_is_known() -> None:
    assert list(JUDGES) == [expectation.name for expectation in EXPECTATIONS]


def test_a_good_board() -> None:
    assert set(verdicts(RUN).values()) == {Verdict.HELD}
    said = line(judge(RUN), RUN)["hil"]
    assert (said["failed"], said["not_judged"]) == ([], {})
    assert (said["forward_s"], said["filter_s"], said["forward_before_python"], said["unfiltered_ms"]) == (
        4.2,
        9.0,
        True,
        0,
    )


@pytest.mark.parametrize(
    ("path", "value", "failed"),
    [
        ("early.at", None, {"boot", "before-python"}),
        ("early.at", 7.0, {"before-python"}),
        ("early.base", False, {"object-loaded"}),
        ("early.plain", True, {"object-loaded"}),
        ("heartbeat.attached", False, {"object-loaded"}),
        ("first_python", None, {"before-python"}),
        ("root_fs", "ext4", {"read-only"}),
        ("root_ro", False, {"read-only"}),
        ("verity", False, {"read-only"}),
        ("enrol.code", "no-dns", {"enrolled", "hard-reset"}),
        ("heartbeat.base", 2, {"central-indicator", "hard-reset"}),
        ("failed_units", ["vigie-link.service"], {"units"}),
    ],
)
def test_each_fault_fails_what_it_is_about(path: str, value: object, failed: set[str]) -> None:
    first = copy.deepcopy(GOOD)
    *way, last = path.split(".")
    inner = first
    for step in way:
        inner = inner[step]
    inner[last] = value
    found = verdicts(Seen(first, AGAIN, again_by="x", probes=RUN.probes))
    assert {name for name, verdict in found.items() if verdict is Verdict.FAILED} == failed


@pytest.mark.parametrize(
    ("probes", "name"),
    [
        (Probes(False, True, 0), "forward"),
        (Probes(True, False, 0), "toxic-refused"),
        (Probes(True, True, 2), "never-unfiltered"),
    ],
)
def test_traffic_beats_words(probes: Probes, name: str) -> None:
    assert verdicts(Seen(GOOD, AGAIN, again_by="x", probes=probes))[name] is Verdict.FAILED


def test_without_traffic_the_words_are_judged() -> None:
    found = verdicts(Seen(GOOD, AGAIN, again_by="x"))
    assert found["never-unfiltered"] is Verdict.NOT_JUDGED
    assert found["forward"] is found["toxic-refused"] is Verdict.HELD
    blocked = GOOD | {"bridge": {"eth0": 3, "eth1": 4}, "selftest": {"passed": False, "sentence": "no"}}
    found = verdicts(Seen(blocked, AGAIN, again_by="x"))
    assert found["forward"] is found["toxic-refused"] is Verdict.FAILED


def test_a_board_in_the_factory_has_no_department() -> None:
    found = verdicts(Seen(GOOD | {"enrol": {}}, AGAIN | {"enrol": {}}, factory=True, again_by="x"))
    assert found["enrolled"] is found["central-indicator"] is Verdict.NOT_JUDGED
    assert found["hard-reset"] is Verdict.HELD


@pytest.mark.parametrize(
    "again", [{}, GOOD, AGAIN | {"failed_units": ["x.service"]}, AGAIN | {"heartbeat": {"base": 6, "attached": True}}]
)
def test_a_restart_that_went_wrong(again: dict[str, Any]) -> None:
    assert verdicts(Seen(GOOD, again, again_by="x"))["hard-reset"] is Verdict.FAILED


def test_nothing_seen_is_a_failure() -> None:
    found = verdicts(Seen())
    assert found["boot"] is Verdict.FAILED
    assert Verdict.HELD not in found.values()


def test_relays() -> None:
    assert relay.frame(1, True) == bytes.fromhex("a00101a2")
    assert relay.frame(1, False) == bytes.fromhex("a00100a1")
    assert isinstance(relay.parse("serial:/dev/ttyUSB1"), relay.SerialRelay)
    assert relay.parse("serial:/dev/ttyUSB1:4").name == "relay 4 at /dev/ttyUSB1"
    assert isinstance(relay.parse("usbrelay A_1={state}"), relay.CommandRelay)
    for wrong in ("usbrelay A_1=1", "serial:/dev/ttyUSB1:9", "serial:", "sh 'x {state}"):
        with pytest.raises(relay.RelayError):
            relay.parse(wrong)


def test_a_relay_that_fails() -> None:
    for command in ("false {state}", "no-such-program-here {state}"):
        with pytest.raises(relay.RelayError):
            relay.parse(command, 0.0).cycle()
    with pytest.raises(relay.RelayError, match="plugged in"):
        relay.SerialRelay("/dev/no-such-port").cycle()


def test_addresses() -> None:
    assert probes.parse("192.0.2.1:443") == ("192.0.2.1", 443)
    assert probes.parse("[2001:db8::1]:443") == ("2001:db8::1", 443)
    for wrong in ("192.0.2.1", "a:b", ":1", "a:70000"):
        with pytest.raises(probes.ProbeError):
            probes.parse(wrong)
