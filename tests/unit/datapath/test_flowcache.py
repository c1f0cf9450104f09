"""Insertion into the flow cache keeps its rules: probing order, no doubles, full groups left out."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from vigie.contract.codes import Reason, Verdict
from vigie.errors import LayoutError
from vigie.filter import abi
from vigie.filter.control import Control
from vigie.filter.flowcache import FlowCache, Holds, flow_hash, flow_hashes, key_bytes


class MemoryMap:
    """An array map in plain memory."""

    def __init__(self, dtype: np.dtype[np.void], entries: int) -> None:
        self.value_size, self.max_entries = dtype.itemsize, entries
        self.memory = bytearray(dtype.itemsize * entries)

    def mmap(self) -> memoryview:
        return memoryview(self.memory)


@pytest.fixture
def cache() -> FlowCache:
    control = Control(MemoryMap(abi.CONTROL, 1))  # type: ignore[arg-type]
    control.record["flow_seed"] = 0x1234567
    tags = MemoryMap(abi.FLOW_TAGS, abi.FLOW_COUNT // abi.FLOW_WAYS)
    return FlowCache(MemoryMap(abi.FLOW, abi.FLOW_COUNT), tags, control)  # type: ignore[arg-type]


def make(count: int, seed: int = 1) -> np.ndarray:
    rng = np.random.default_rng(seed)
    flows = np.zeros(count, dtype=abi.FLOW)
    flows["key"]["a"][:, :12] = flows["key"]["b"][:, :12] = np.frombuffer(abi.MAPPED_PREFIX, dtype=np.uint8)
    flows["key"]["a"][:, 12:] = rng.integers(0, 256, (count, 4))
    flows["key"]["b"][:, 12:] = rng.integers(0, 256, (count, 4))
    flows["key"]["pa"], flows["key"]["pb"] = rng.integers(1, 65536, count), 443
    flows["key"]["proto"], flows["key"]["family"], flows["key"]["vlan"] = 6, 4, abi.NO_VLAN
    flows["meta"] = abi.join_meta(0, Verdict.PASS, Reason.DEFAULT, 0)
    flows["flags"] = 1 << abi.FL_INIT_SHIFT
    flows["last_s"] = np.arange(count)
    return flows


def test_every_inserted_flow_is_found_with_its_content(cache: FlowCache) -> None:
    flows = make(20_000)
    assert cache.insert(flows) == 20_000
    for i in range(0, 20_000, 97):
        index = cache.find(flows[i]["key"].tobytes())
        assert index is not None
        assert int(cache.rows[index]["last_s"]) == i
    assert len(cache.snapshot()) == 20_000


def test_inserted_flows_are_of_an_old_epoch_and_keep_their_opener(cache: FlowCache) -> None:
    flows = make(100)
    cache.insert(flows)
    copies = cache.snapshot()
    epochs = {abi.split_meta(int(m))[0] for m in copies["meta"]}
    assert cache._control.gen not in epochs
    assert {abi.split_meta(int(m))[1:3] for m in copies["meta"]} == {(Verdict.PASS, Reason.DEFAULT)}
    assert set(copies["flags"].tolist()) == {1 << abi.FL_INIT_SHIFT}


def test_doubles_are_not_inserted(cache: FlowCache) -> None:
    flows = make(50)
    assert cache.insert(np.concatenate([flows, flows])) == 50
    assert cache.insert(flows) == 0
    assert cache.insert(flows[:0]) == 0


def test_a_full_group_leaves_the_rest_out(cache: FlowCache) -> None:
    pool = make(400_000)
    groups = (flow_hashes(pool["key"], cache.seed) & np.uint64(abi.FLOW_COUNT - 1)) // np.uint64(abi.FLOW_WAYS)
    values, counts = np.unique(groups, return_counts=True)
    crowd = pool[groups == values[counts.argmax()]]
    assert len(crowd) > abi.FLOW_WAYS
    assert cache.insert(crowd) == abi.FLOW_WAYS


def test_an_answer_goes_beside_the_entry_and_names_its_hold(cache: FlowCache) -> None:
    cache.insert(make(3))
    before = cache.rows.copy()
    memory = MemoryMap(abi.HOLD, abi.FLOW_COUNT)
    holds = Holds(memory, cache)  # type: ignore[arg-type]
    key = make(3)[1]["key"].tobytes()
    start = (1 << 63) + 12345
    assert holds.answer(key, start, Verdict.REFUSE, Reason.TOXIC_SNI)
    index = cache.find(key)
    assert np.flatnonzero(holds.rows["answer"]).tolist() == [index]
    word = int(holds.rows["answer"][index])
    assert word == abi.join_answer(start, Verdict.REFUSE, Reason.TOXIC_SNI)
    assert (word >> 16, word >> 8 & 0xFF, word & 0xFF) == (start % (1 << 48), Verdict.REFUSE, Reason.TOXIC_SNI)
    assert not np.any(holds.rows["start_ns"]), "the data path's own"
    assert np.array_equal(cache.rows, before), "userspace never writes into an entry"
    assert not holds.answer(key_bytes("192.0.2.1", "192.0.2.2", 1, 2, 6, 4), start, Verdict.PASS, Reason.DEFAULT)


def test_a_map_of_another_shape_is_refused(cache: FlowCache) -> None:
    with pytest.raises(LayoutError, match="holds"):
        Holds(MemoryMap(abi.FLOW, abi.FLOW_COUNT), cache)  # type: ignore[arg-type]


def test_half_written_entries_are_not_copied(cache: FlowCache) -> None:
    cache.insert(make(10))
    used = np.flatnonzero(cache.rows["tag"])
    cache.rows[used[0]]["meta"] ^= np.uint64(1)
    assert len(cache.snapshot()) == 9


@given(st.lists(st.binary(min_size=40, max_size=40), min_size=1, max_size=20), st.integers(0, 2**64 - 1))
def test_the_two_spellings_of_the_hash_agree(keys: list[bytes], seed: int) -> None:
    columns = np.frombuffer(b"".join(keys), dtype=abi.FLOW_KEY)
    assert flow_hashes(columns, seed).tolist() == [flow_hash(key, seed) for key in keys]


def test_chunks_together_are_the_snapshot(cache: FlowCache) -> None:
    cache.insert(make(5000))
    parts = list(cache.chunks(4096))
    assert len(parts) == abi.FLOW_COUNT // 4096
    assert np.array_equal(np.concatenate(parts), cache.snapshot())
