"""What has to last before it counts."""

from __future__ import annotations

from typing import Any

from tests.support.micropython import Interpreter


def beat(at: float, **more: Any) -> dict[str, Any]:
    return {"at": at, "base": 3, "attached": True, "loop": False} | more


def beats(mp: Interpreter, *seen: tuple[object, int]) -> list[Any]:
    calls = [("see", [value, now]) for value, now in seen]
    return [answer["beat"] for answer in mp.steps("observe", "Heartbeat", [10], *calls)]


def test_a_filter_that_lives_dies_and_lives_again(mp: Interpreter) -> None:
    seen = (None, 0), (beat(1), 1), (beat(3), 3), (beat(3), 13), (beat(3), 14), (None, 30), (beat(40), 40)
    assert beats(mp, *seen) == ["unknown", "alive", "alive", "alive", "lost", "lost", "alive"]


def test_the_file_of_a_dead_filter_is_not_a_live_one(mp: Interpreter) -> None:
    """A guardian that starts later gives it the same time to change."""
    assert beats(mp, (beat(5), 100), (beat(5), 110), (beat(5), 111)) == ["alive", "alive", "lost"]


def test_the_stamps_clock_does_not_matter(mp: Interpreter) -> None:
    """Only that it changes: backwards, another unit, a restart of the counter."""
    assert beats(mp, (beat(1e9), 0), (beat(5), 9), (beat(-3.5), 18), (beat(0), 27)) == ["alive"] * 4


def test_what_is_no_heartbeat(mp: Interpreter) -> None:
    assert beats(mp, ([], 0), ({}, 1), ({"at": None}, 2), ("x", 3)) == ["unknown"] * 4


def test_the_filters_words(mp: Interpreter) -> None:
    """Missing or of another type: attached is believed, base and loop are not."""
    calls = [
        ("see", [value, 0]) for value in (beat(1, attached=False, loop=True), {"at": 2}, beat(3, base="x", loop=1))
    ]
    answers = mp.steps("observe", "Heartbeat", [10], *calls)
    assert answers == [
        {"beat": "alive", "attached": False, "base": 3, "loop": True},
        {"beat": "alive", "attached": True, "base": None, "loop": False},
        {"beat": "alive", "attached": True, "base": None, "loop": False},
    ]


def bridge(mp: Interpreter, *seen: tuple[object, int]) -> list[Any]:
    return mp.steps("observe", "Bridge", [10, 60], *(("see", [ports, now]) for ports, now in seen))


def ports(left: tuple[object, int, int], right: tuple[object, int, int]) -> dict[str, list[object]]:
    return {"eth0": list(left), "eth1": list(right)}


def test_a_bridge_that_is_late_and_one_that_goes(mp: Interpreter) -> None:
    whole = ports((True, 0, 0), (True, 0, 0))
    seen = (None, 0), (None, 9), (None, 10), (whole, 11), (None, 12), ({"eth0": [True, 0, 0]}, 21), (None, 22)
    assert [answer["bridge"] for answer in bridge(mp, *seen)] == [None, None, False, True, None, None, False]


def test_carrier_is_told_where_it_is_known(mp: Interpreter) -> None:
    (answer,) = bridge(mp, (ports((None, 0, 0), (False, 0, 0)), 0))
    assert answer["links"] == {"eth1": False}


def stalls(mp: Interpreter, *seen: tuple[object, int]) -> list[bool]:
    return [answer["stalled"] for answer in bridge(mp, *seen)]


def test_frames_in_and_none_out_for_a_minute(mp: Interpreter) -> None:
    seen = [(ports((True, 100 + now, 7), (True, 5, 9)), now) for now in (0, 30, 59, 60, 61)]
    assert stalls(mp, *seen) == [False, False, False, True, True]


def test_silence_is_no_stall(mp: Interpreter) -> None:
    seen = [(ports((True, 100, 7), (True, 5, 9)), now) for now in (0, 60, 600)]
    assert stalls(mp, *seen) == [False, False, False]


def test_a_few_frames_for_the_box_itself_are_no_stall(mp: Interpreter) -> None:
    seen = [(ports((True, 100 + now // 30, 7), (True, 5, 9)), now) for now in (0, 60, 120, 300)]
    assert stalls(mp, *seen) == [False] * 4


def test_whatever_leaves_ends_a_stall(mp: Interpreter) -> None:
    seen = [
        (ports((True, 100, 7), (True, 5, 9)), 0),
        (ports((True, 900, 7), (True, 5, 9)), 60),
        (ports((True, 900, 8), (True, 5, 9)), 61),
        (ports((True, 1000, 8), (True, 5, 9)), 120),
        (ports((True, 1000, 8), (True, 5, 9)), 121),
    ]
    assert stalls(mp, *seen) == [False, True, False, False, True]


def test_an_unplugged_cable_or_counters_that_begin_anew_are_no_stall(mp: Interpreter) -> None:
    unplugged = [(ports((True, 100 + now, 7), (False, 5, 9)), now) for now in (0, 60, 120)]
    assert stalls(mp, *unplugged) == [False] * 3
    anew = [(ports((True, count, 7), (True, 5, 9)), now) for now, count in ((0, 500), (60, 90))]
    assert stalls(mp, *anew) == [False, False]


def quiet(mp: Interpreter, *calls: tuple[str, list[Any]]) -> Any:
    return mp.steps("observe", "Frames", [0], *calls)[-1]


def test_the_processor_that_moved_a_frame_longest_ago_counts(mp: Interpreter) -> None:
    asked = ("processors", [[0, 1], 0]), ("moved", [0, 5]), ("moved", [1, 30]), ("moved", [0, 28])
    assert quiet(mp, *asked, ("quiet", [31])) == 3
    assert quiet(mp, *asked[:3], ("quiet", [31])) == 26


def test_a_processor_that_leaves_does_not_count_and_a_new_one_has_its_time(mp: Interpreter) -> None:
    calls = ("processors", [[0, 1], 0]), ("moved", [0, 50]), ("processors", [[0, 2], 50]), ("quiet", [51])
    assert quiet(mp, *calls) == 1


def test_frames_without_a_processor_of_their_own(mp: Interpreter) -> None:
    assert quiet(mp, ("moved", [None, 40]), ("quiet", [42])) == 2


def test_without_a_way_to_ask_the_count_begins_anew(mp: Interpreter) -> None:
    calls = ("processors", [[0, 1], 0]), ("forgive", [100]), ("quiet", [101])
    assert quiet(mp, *calls) == 1
