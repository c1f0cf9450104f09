"""Loop guard: block at the first probe that comes back, reopen when none came for a while."""

from __future__ import annotations

from vigie.filter.loop import Change, LoopGuard, probe_frame, probe_token, siphash

S = 1_000_000_000


def test_blocks_at_once_and_reopens_after_silence() -> None:
    guard = LoopGuard(reopen_ns=3 * S)
    assert guard.tick(10 * S) is None
    assert guard.seen(10 * S) is Change.BLOCK
    assert guard.seen(11 * S) is None  # still there: nothing new to do
    assert guard.tick(13 * S) is None  # 2 s of silence
    assert guard.tick(14 * S) is Change.REOPEN
    assert guard.tick(15 * S) is None
    assert guard.seen(16 * S) is Change.BLOCK


def test_the_same_sight_counts_once() -> None:
    """The event and `state.probe_seen_ns` tell the same probe; the field stays after the loop is gone."""
    guard = LoopGuard(reopen_ns=3 * S)
    assert guard.seen(10 * S) is Change.BLOCK
    assert guard.tick(13 * S) is Change.REOPEN
    assert guard.seen(10 * S) is None
    assert not guard.blocked


def test_sight_of_an_earlier_daemon_is_ignored() -> None:
    assert LoopGuard(reopen_ns=3 * S, started_ns=100 * S).seen(99 * S) is None


def test_probe_frame_layout() -> None:
    frame = probe_frame(bytes.fromhex("020000000001"), 0x0102030405060708, 1)
    assert len(frame) == 60
    assert frame[:14] == b"\xff" * 6 + bytes.fromhex("020000000001") + b"\x88\xb5"
    assert frame[14:27] == b"VGLP" + probe_token(0x0102030405060708, 1).to_bytes(8, "big") + b"\x01"


def test_siphash_gives_the_vector_of_its_authors() -> None:
    """Appendix A of the paper's code: key 00..0f, message 00..07."""
    key = bytes(range(16))
    low, high, word = (int.from_bytes(part, "little") for part in (key[:8], key[8:], key[:8]))
    assert siphash(low, high, word) == 0x93F5F5799A932462


def test_each_port_and_each_nonce_has_its_token() -> None:
    assert len({probe_token(nonce, port) for nonce in (1, 2, 2**64 - 1) for port in (0, 1)}) == 6
