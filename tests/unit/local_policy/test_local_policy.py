"""Local decisions: what is accepted, what is kept, what the tables get."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vigie.contract.codes import Action
from vigie.errors import UsageError
from vigie.filter import local_policy as lp
from vigie.filter.local_policy import Isolation, LocalPolicy, PolicyFileError, Quarantined, Rule

WALL, MONO = 1_700_000_000.0, 5_000.0
MAC = "02:00:00:00:00:01"


def rule(target: str, action: Action = Action.ALLOW, device: str = "", until: float = WALL + 3600, **more: int) -> Rule:
    return Rule(action, target, device, more.get("proto", 0), more.get("port", 0), until, WALL)


@pytest.mark.parametrize(
    ("text", "canonical"),
    [
        ("192.0.2.7", "192.0.2.7/32"),
        ("192.0.2.7/24", "192.0.2.0/24"),
        ("2001:DB8::1", "2001:db8::1/128"),
        ("Mairie.Example.", "mairie.example"),
        ("*.exemple.fr", "exemple.fr"),
        ("écoles.exemple.fr", "xn--coles-9ra.exemple.fr"),
    ],
)
def test_targets(text: str, canonical: str) -> None:
    assert lp.canonical_target(text) == canonical


@pytest.mark.parametrize("text", ["", "com", "a b.fr", "192.0.2.300", "http://a.fr/", "x" * 300 + ".fr"])
def test_what_is_no_target(text: str) -> None:
    with pytest.raises(UsageError):
        lp.canonical_target(text)


@pytest.mark.parametrize("text", ["01:00:00:00:00:00", "00:00:00:00:00:00", "zz", "02:00:00:00:00"])
def test_what_is_no_device(text: str) -> None:
    with pytest.raises(UsageError):
        lp.canonical_device(text)


def test_a_new_rule_replaces_that_of_the_same_device_and_target() -> None:
    policy = LocalPolicy().with_rule(rule("a.fr"), WALL).with_rule(rule("a.fr", device=MAC), WALL)
    policy = policy.with_rule(rule("a.fr", Action.BLOCK), WALL)
    assert [(r.action, r.device) for r in policy.rules] == [(Action.ALLOW, MAC), (Action.BLOCK, "")]
    assert len(policy.without_rule("a.fr", "").rules) == 1
    with pytest.raises(UsageError):
        policy.without_rule("b.fr", "")


@pytest.mark.parametrize(
    "bad",
    [
        rule("a.fr", until=WALL),
        rule("a.fr", until=WALL + 400 * 86_400),
        rule("a.fr", port=443, proto=6),
        rule("0.0.0.0/0", Action.BLOCK),
        rule("::/0", Action.BLOCK),
    ],
)
def test_rules_that_make_no_sense(bad: Rule) -> None:
    with pytest.raises(UsageError):
        LocalPolicy().with_rule(bad, WALL)


def test_the_gateway_and_the_box_are_never_in_quarantine() -> None:
    with pytest.raises(UsageError, match="la passerelle"):
        LocalPolicy().with_quarantine(MAC, WALL + 10, WALL, {MAC: "la passerelle"})
    policy = LocalPolicy().with_quarantine(MAC, WALL + 10, WALL, {})
    assert lp.compile_policy(policy, WALL, MONO, {bytes.fromhex("020000000001")}).quarantine == ()


def test_isolation() -> None:
    policy = LocalPolicy().with_isolation(3, WALL + 60)
    compiled = lp.compile_policy(policy, WALL, MONO)
    assert (compiled.isolation_level, compiled.isolation_until) == (3, int(MONO) + 61)
    assert lp.compile_policy(policy, WALL + 61, MONO + 61).isolation_level == 0
    assert policy.with_isolation(0, 0.0).isolation == Isolation()
    with pytest.raises(UsageError):
        policy.with_isolation(4, WALL)


def test_compiled_rows() -> None:
    policy = LocalPolicy().with_rule(rule("192.0.2.0/24", device=MAC, proto=6, port=443), WALL)
    policy = policy.with_rule(rule("2001:db8::/32", Action.OBSERVE), WALL).with_rule(rule("a.fr", Action.BLOCK), WALL)
    compiled = lp.compile_policy(policy, WALL, MONO)
    v4, v6 = compiled.exceptions
    assert (v4.bits, v4.address[10:], v4.mac, v4.port, v4.proto) == (
        120,
        b"\xff\xff\xc0\x00\x02\x00",
        bytes.fromhex("020000000001"),
        443,
        6,
    )
    assert (v6.bits, v6.mac, v6.action) == (32, bytes(6), Action.OBSERVE)
    assert [(n.name, n.action, n.until_s) for n in compiled.names] == [("a.fr", Action.BLOCK, int(MONO) + 3601)]


def test_expired_parts_end_and_the_rest_stays() -> None:
    policy = LocalPolicy((rule("a.fr", until=WALL + 1), rule("b.fr")), (Quarantined(MAC, WALL + 1, WALL),))
    swept = policy.swept(WALL + 2)
    assert [r.target for r in swept.rules] == ["b.fr"] and swept.quarantine == ()
    assert swept.swept(WALL + 2) is swept


def test_matching_is_in_the_order_of_the_data_path() -> None:
    rules = [rule("192.0.2.0/24"), rule("192.0.2.7/32"), rule("10.0.0.0/8", device=MAC), rule("198.51.100.0/24")]
    assert [r.target for r in lp.matching(rules, "192.0.2.7", "", MAC)] == ["192.0.2.7/32", "192.0.2.0/24"]
    wide = [*rules, rule("192.0.0.0/8", device=MAC)]
    assert lp.matching(wide, "192.0.2.7", "", MAC)[0].target == "192.0.0.0/8"
    assert [r.target for r in lp.matching([rule("a.fr"), rule("b.a.fr")], "", "x.b.a.fr", "")] == ["b.a.fr", "a.fr"]


_targets = st.sampled_from(["192.0.2.0/24", "2001:db8::1/128", "a.fr", "b.a.fr"])
_rules = st.builds(
    Rule,
    st.sampled_from([Action.ALLOW, Action.BLOCK, Action.OBSERVE]),
    _targets,
    st.sampled_from(["", MAC]),
    st.sampled_from([0, 6, 17]),
    st.integers(0, 65535),
    st.floats(WALL - 100, WALL + 1e6),
    st.just(WALL),
    st.text(max_size=50),
)
_quarantines = st.builds(Quarantined, st.just(MAC), st.floats(WALL - 100, WALL + 1e6), st.just(WALL))


@given(st.lists(_rules, max_size=8), st.lists(_quarantines, max_size=3), st.integers(0, 3), st.floats(WALL, WALL + 1e6))
def test_file_round_trip(rules: list[Rule], quarantine: list[Quarantined], level: int, until: float) -> None:
    policy = LocalPolicy(tuple(rules), tuple(quarantine), Isolation(level, until))
    assert lp.parse(lp.dump(policy), Path("policy.json")) == policy


@given(st.lists(_rules, max_size=8), st.floats(-50, 1e6))
def test_nothing_in_force_ends_early_nor_lives_on(rules: list[Rule], later: float) -> None:
    wall = WALL + later
    compiled = lp.compile_policy(LocalPolicy(tuple(rules)), wall, MONO)
    live = [r for r in rules if r.until > wall]
    assert len(compiled.exceptions) + len(compiled.names) == len(live)
    for row in (*compiled.exceptions, *compiled.names):
        assert row.until_s > MONO


@given(st.binary(max_size=200))
def test_any_bytes_are_a_policy_or_a_named_error(data: bytes) -> None:
    with pytest.raises(PolicyFileError, match=r"policy\.json"):
        lp.parse(data, Path("policy.json"))


def test_files(tmp_path: Path) -> None:
    path = tmp_path / "state" / "policy.json"
    assert lp.load(path) == LocalPolicy()
    policy = LocalPolicy((rule("a.fr"),))
    lp.write_atomic(path, lp.dump(policy))
    assert lp.load(path) == policy
    assert [p.name for p in path.parent.iterdir()] == ["policy.json"]
