"""The numbers of `verdicts.h` and of `vigie.contract.codes` are the same, name by name, both ways."""

from __future__ import annotations

import re
from enum import IntEnum
from pathlib import Path

import pytest

from vigie.contract import codes

HEADER = Path(__file__).parents[3] / "firmware" / "bpf" / "verdicts.h"

ENUMS: dict[str, tuple[tuple[str, ...], type[IntEnum]]] = {
    "verdict": (("V_",), codes.Verdict),
    "reason": (("R_", "C_"), codes.Reason),
    "event_kind": (("E_",), codes.EventKind),
    "direction": (("D_",), codes.Direction),
    "action": (("A_",), codes.Action),
    "category": (("CAT_",), codes.Category),
    "device_class": (("DC_",), codes.DeviceClass),
    "inbound_mode": (("IN_",), codes.InboundMode),
    "initiator": (("INIT_",), codes.Initiator),
}
"""C enum: prefixes of its members, and its Python side."""

SIZES = {"REASON_COUNT": codes.REASON_COUNT, "EVENT_KINDS": codes.EVENT_KINDS}
"""Members that are sizes of maps, not codes."""


def c_enums(text: str) -> dict[str, dict[str, int]]:
    """Every `enum name { A = 1, ... }` of a header. Each member must carry its number: none is left to counting."""
    text = re.sub(r"/\*.*?\*/", " ", text, flags=re.DOTALL)
    found: dict[str, dict[str, int]] = {}
    for match in re.finditer(r"\benum\s+(\w+)\s*\{(.*?)\}", text, flags=re.DOTALL):
        name, body = match.groups()
        members: dict[str, int] = {}
        for item in filter(None, (part.strip() for part in body.split(","))):
            member = re.fullmatch(r"(\w+)\s*=\s*(\d+)", item)
            assert member, f"enum {name}: {item!r} has no plain number"
            assert member[1] not in members, f"enum {name}: {member[1]} twice"
            members[member[1]] = int(member[2])
        assert name not in found, f"enum {name} twice"
        found[name] = members
    return found


def without_prefix(member: str, prefixes: tuple[str, ...]) -> str:
    for prefix in prefixes:
        if member.startswith(prefix):
            return member.removeprefix(prefix)
    pytest.fail(f"{member} begins with none of {prefixes}")


HEADER_ENUMS = c_enums(HEADER.read_text(encoding="utf-8"))


def test_every_enum_of_the_header_has_a_python_side() -> None:
    assert set(HEADER_ENUMS) == set(ENUMS)


def test_every_enum_of_the_module_is_in_the_header() -> None:
    ours = {
        value
        for value in vars(codes).values()
        if isinstance(value, type) and issubclass(value, IntEnum) and value is not IntEnum
    }
    assert ours == {side for _, side in ENUMS.values()}


@pytest.mark.parametrize("name", ENUMS)
def test_names_and_numbers_agree(name: str) -> None:
    prefixes, side = ENUMS[name]
    c_side = {without_prefix(m, prefixes): n for m, n in HEADER_ENUMS[name].items() if m not in SIZES}
    # __members__ rather than iteration: an alias (two names, one number) would otherwise hide
    assert c_side == {m: int(v) for m, v in side.__members__.items()}


@pytest.mark.parametrize("name", ENUMS)
def test_no_number_twice(name: str) -> None:
    numbers = list(HEADER_ENUMS[name].values())
    assert len(numbers) == len(set(numbers)), HEADER_ENUMS[name]


def test_sizes_agree_and_hold_every_code() -> None:
    in_header = {m: n for members in HEADER_ENUMS.values() for m, n in members.items() if m in SIZES}
    assert in_header == SIZES
    assert max(codes.Reason) < codes.REASON_COUNT
    assert max(codes.EventKind) < codes.EVENT_KINDS


def test_ranges_of_reasons() -> None:
    prefix = {n: m[:2] for m, n in HEADER_ENUMS["reason"].items()}
    for reason in codes.Reason:
        assert reason.is_counter == (prefix[reason] == "C_"), reason
        assert not (reason.is_block and reason.is_anomaly), reason
    assert codes.Reason.ISOLATION.is_block
    assert codes.Reason.LOOP.is_block
    assert codes.Reason.SHORT_FRAME.is_anomaly
    assert not codes.Reason.ICMP_ERROR.is_block


@pytest.mark.parametrize(
    ("verdict", "blocks"),
    [
        (codes.Verdict.PASS, False),
        (codes.Verdict.REFUSE, True),
        (codes.Verdict.NXDOMAIN, True),
        (codes.Verdict.DROP, True),
        (codes.Verdict.OBSERVE, False),
        (codes.Verdict.HOLD, False),
    ],
)
def test_which_verdicts_block(verdict: codes.Verdict, blocks: bool) -> None:
    assert verdict.blocks is blocks


def test_the_parser_sees_a_difference() -> None:
    """The comparison is only worth what the parser reads: odd spacing, comments, several enums."""
    text = "enum a { X = 1, /* Y = 2, */\n\tZ=3,\n}; struct s { int n; };\nenum b { W = 0 };"
    assert c_enums(text) == {"a": {"X": 1, "Z": 3}, "b": {"W": 0}}
    with pytest.raises(AssertionError, match="no plain number"):
        c_enums("enum a { X };")
