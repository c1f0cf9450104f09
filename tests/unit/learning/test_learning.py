"""Ports in real use: what counts as use, what is kept, what is revoked."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st

from vigie.contract.codes import Reason, Verdict
from vigie.errors import UsageError
from vigie.filter import abi, learning
from vigie.filter.learning import EMPTY, ENTRIES_MAX, Learned, Learning, LearningFileError, Use, uses_in

MAC = bytes.fromhex("020000000001")
WEB = Use(MAC, 6, 443)
NOW = 10_000


def flow(wan: int = 1, **changes: object) -> npt.NDArray[np.void]:
    """A published port in use: opened from the internet, answered beyond the handshake."""
    lan = 1 - wan
    row = np.zeros(1, dtype=abi.FLOW)
    row["tag"] = 77
    row["meta"] = abi.join_meta(4, int(changes.pop("verdict", Verdict.PASS)), Reason.INBOUND_ALLOWED, 0)  # type: ignore[call-overload]
    row["key"]["pa" if lan == 0 else "pb"] = 443
    row["key"]["pa" if wan == 0 else "pb"] = 50_000
    row["key"]["proto"] = changes.pop("proto", 6)
    row["mac_a" if lan == 0 else "mac_b"] = np.frombuffer(MAC, np.uint8)
    opener = int(changes.pop("opener", wan))  # type: ignore[call-overload]
    flags = (opener + 1) << abi.FL_INIT_SHIFT | abi.FL_ANSWERED
    flags |= int(changes.pop("flags", 0))  # type: ignore[call-overload]
    flags |= int(changes.pop("lan_tcp", 0x18)) << (abi.FL_TCP_SHIFT + 8 * lan)  # type: ignore[call-overload]
    row["flags"] = flags & ~int(changes.pop("without", 0))  # type: ignore[call-overload]
    row["packets"][0][wan] = changes.pop("packets_in", 5)
    row["packets"][0][lan] = changes.pop("packets_out", 4)
    row["last_s"] = changes.pop("last_s", NOW - 5)
    assert not changes
    return row


@pytest.mark.parametrize("wan", [0, 1])
def test_a_published_port_in_use_is_found_whichever_side_the_internet_is(wan: int) -> None:
    assert uses_in(flow(wan), wan, NOW) == {WEB}


@pytest.mark.parametrize(
    "change",
    [
        {"opener": 0},  # the LAN opened it
        {"without": abi.FL_ANSWERED},
        {"flags": abi.FL_LOCAL},
        {"packets_in": 2},  # SYN, ACK: a scanner
        {"packets_out": 1},
        {"lan_tcp": 0x14},  # the device reset it
        {"verdict": Verdict.REFUSE},
        {"proto": 1},
        {"last_s": NOW - 1000},
    ],
)
def test_what_is_no_use(change: dict[str, object]) -> None:
    assert uses_in(flow(**change), 1, NOW) == set()  # type: ignore[arg-type]


def test_an_empty_cache_and_free_entries() -> None:
    assert uses_in(np.zeros(100, dtype=abi.FLOW), 1, NOW) == set()
    freed = flow()
    freed["tag"] = 0
    assert uses_in(freed, 1, NOW) == set()


def test_new_uses_only_while_learning() -> None:
    learnt = EMPTY.seen([WEB], 100.0, learning=True)
    assert learnt.allowed() == [WEB]
    later = learnt.seen([WEB, Use(MAC, 17, 53)], 200.0, learning=False)
    assert later.uses == {WEB: Learned(100.0, 200.0, 2)}
    assert EMPTY.seen([WEB], 1.0, learning=False) is EMPTY


def test_revoked_stays_revoked() -> None:
    learnt = EMPTY.seen([WEB], 100.0, learning=True).revoked(WEB).seen([WEB], 200.0, learning=True)
    assert learnt.allowed() == [] and learnt.uses[WEB].revoked
    with pytest.raises(UsageError, match="443/tcp"):
        EMPTY.revoked(WEB)


def test_the_period_counts_time_with_known_roles() -> None:
    learnt = EMPTY.advanced(30.0).advanced(-5.0)
    assert (learnt.left_s(100.0), learnt.left_s(20.0)) == (70.0, 0.0)


def test_bounded() -> None:
    many = EMPTY.seen([Use(MAC, 6, p) for p in range(1, ENTRIES_MAX + 50)], 1.0, learning=True)
    assert len(many.uses) == ENTRIES_MAX


_uses = st.builds(Use, st.binary(min_size=6, max_size=6), st.sampled_from([6, 17]), st.integers(1, 65535))
_learned = st.builds(Learned, st.floats(0, 1e10), st.floats(0, 1e10), st.integers(1, 100), st.booleans())


@given(st.dictionaries(_uses, _learned, max_size=20), st.floats(0, 1e9))
def test_file_round_trip(uses: dict[Use, Learned], elapsed: float) -> None:
    state = Learning(uses, elapsed)
    assert learning.parse(learning.dump(state), Path("learning.json")) == state


@pytest.mark.parametrize("text", [b"", b"[]", b"{}", b'{"format": 2}', b'{"format": 1, "uses": [{}], "elapsed_s": 1}'])
def test_a_bad_file_is_named(text: bytes) -> None:
    with pytest.raises(LearningFileError, match=r"learning\.json"):
        learning.parse(text, Path("learning.json"))
