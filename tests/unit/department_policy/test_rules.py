"""Exceptions ordered by the department: what is refused, how the commune's own rules meet them, what the image gets."""

from __future__ import annotations

import ipaddress
import json
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.unit.department_policy.world import BOX, DAY, HOUR, MACS, T0, Exemption, Settings, World
from tests.unit.why.test_why import LOOKUP, NEVER
from vigie.contract.codes import Action
from vigie.contract.downward import Essential
from vigie.contract.words import Inbound, Proto, RuleAction
from vigie.errors import ListError
from vigie.filter import department_rules
from vigie.filter.base.additions import Additions
from vigie.filter.base_builder import box_lists
from vigie.filter.department_rules import ORDERED, covers, merge
from vigie.filter.local_policy import Isolation, LocalPolicy, Rule, matching
from vigie.filter.ordered_lists import with_ordered
from vigie.filter.protected_places import never_address, never_name

BLOCK, ALLOW, OBSERVE = RuleAction.BLOCK, RuleAction.ALLOW, RuleAction.OBSERVE


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path, lookup=LOOKUP)


def exception(action: RuleAction, target: str, **more: object) -> Exemption:
    return Exemption(action, target, T0 + DAY, **more)  # type: ignore[arg-type]


@pytest.mark.slow
def test_exceptions_become_rules(world: World) -> None:
    answer = world.order(
        exceptions=(
            exception(ALLOW, "fournisseur.example"),
            exception(BLOCK, "203.0.113.7/32", device=world.pseudonym(MACS[2]), proto=Proto.TCP, port=443, note="vu"),
        )
    )
    assert (answer["status"], answer["exceptions"]) == ("in_force", 2)
    allow, block = world.effective().rules
    assert allow == Rule(Action.ALLOW, "fournisseur.example", "", 0, 0, T0 + DAY, T0, "", ORDERED)
    assert block == Rule(Action.BLOCK, "203.0.113.7/32", MACS[2], 6, 443, T0 + DAY, T0, "vu", ORDERED)
    world.pass_time(DAY + 30, 60)
    assert world.effective().rules == ()


@pytest.mark.parametrize(
    ("target", "code"),
    [
        ("impots.gouv.fr", "never-block"),  # the shipped list
        ("x.impots.gouv.fr", "never-block"),
        ("gouv.fr", "never-block"),  # above names of the list
        ("github.io", "never-block"),  # strangers share it
        ("impots.example", "never-block"),  # the base in force
        ("www.impots.example", "never-block"),
        (f"{NEVER}/32", "never-block"),
        ("198.51.100.0/24", "never-block"),  # an address in it
        ("8.8.8.8/32", "never-block"),
        ("8.8.8.0/24", "never-block"),
        ("192.168.1.0/24", "never-block"),
        ("104.16.1.1/32", "never-block"),  # thousands of sites answer there
        ("2606:4700:1::/48", "never-block"),
        ("203.0.112.0/23", "prefix-too-short"),
        ("2a02:1234::/32", "prefix-too-short"),
        ("203.0.113.0/24", None),
        ("2a02:1234:5678::/48", None),
        ("mauvais.example", None),
        ("impots.example.mauvais.example", None),
    ],
)
def test_blocks_keep_off_what_is_protected(world: World, target: str, code: str | None) -> None:
    world.order(exceptions=(exception(BLOCK, target),))
    assert world.refused() == ({"exceptions[0]": code} if code else {})
    assert len(world.effective().rules) == (code is None)


@pytest.mark.parametrize("action", [ALLOW, OBSERVE])
def test_no_exception_switches_the_base_off(world: World, action: RuleAction) -> None:
    world.order(exceptions=tuple(exception(action, t) for t in ("0.0.0.0/0", "::/0", "203.0.0.0/15", "203.0.0.0/16")))
    assert set(world.refused().values()) == {"prefix-too-short"}
    assert [r.target for r in world.effective().rules] == ["203.0.0.0/16"]


def test_a_block_gives_way_when_a_protected_name_points_there(world: World) -> None:
    world.order(exceptions=(exception(BLOCK, "203.0.113.0/24"),))
    assert len(world.effective().rules) == 1
    world.spared = ("203.0.113.9",)
    world.pass_time(15)
    assert world.effective().rules == () and world.refused() == {"exceptions[0]": "never-block"}
    world.spared = ()
    world.pass_time(15)
    assert len(world.effective().rules) == 1


def test_without_the_shipped_lists_nothing_is_blocked(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken() -> None:
        raise ListError("never-block.fr.yaml", 3, "spoilt")

    monkeypatch.setattr(department_rules, "built_in", broken)
    world.order(exceptions=(exception(BLOCK, "mauvais.example"), exception(ALLOW, "bon.example")))
    assert [r.target for r in world.effective().rules] == ["bon.example"]


def test_never_block_of_a_document_beats_its_blocks_and_outlives_it(world: World) -> None:
    world.order(
        never_block=("paie.example", "203.0.113.0/24"),
        exceptions=(exception(BLOCK, "www.paie.example"), exception(BLOCK, "203.0.113.5/32")),
        expires=T0 + HOUR,
    )
    assert set(world.refused().values()) == {"never-block"}
    world.pass_time(2 * DAY, 3600)
    assert {r.target for r in world.effective().rules} == {"paie.example", "203.0.113.0/24"}
    assert all(r.until > world.unix + 300 * DAY for r in world.effective().rules)


def test_essential_and_never_lists_for_the_image(world: World) -> None:
    assert not world.layer.write_lists(), "nothing ordered, nothing written"
    world.order(
        never_block=("paie.example", "203.0.113.0/24"),
        essential=(Essential("maj.vigie.example", 0), Essential("203.0.113.9/32", 4)),
    )
    assert world.layer.write_lists() and not world.layer.write_lists()
    additions, problem = box_lists(world.layer.lists_path)
    plain, _ = box_lists()
    assert problem == ""
    assert set(additions.never_names) - set(plain.never_names) == {"paie.example"}
    assert additions.essential_names["maj.vigie.example"] == 1
    assert additions.essential_networks["203.0.113.9/32"] == 4
    assert set(plain.essential_names.items()) <= set(additions.essential_names.items())
    world.order()
    assert world.layer.write_lists()
    assert box_lists(world.layer.lists_path) == (plain, "")


@pytest.mark.parametrize(
    "text",
    [
        "", "[]", "{}", '{"never_names": ["A B"]}',
        '{"never_names": ["10.0.0.1/8"], "never_networks": [], "essential_names": {}, "essential_networks": {}}',
        '{"never_names": [], "never_networks": [], "essential_names": {"a.fr": 10}, "essential_networks": {}}',
        '{"never_names": [], "never_networks": [], "essential_names": {"a.fr": true}, "essential_networks": {}}',
    ],
)  # fmt: skip
def test_a_spoilt_list_is_said_and_the_shipped_ones_hold(tmp_path: Path, text: str) -> None:
    path = tmp_path / "lists.json"
    path.write_text(text)
    with pytest.raises(ListError):
        with_ordered(Additions(), path)
    additions, problem = box_lists(path)
    assert additions == box_lists()[0] and "lists.json" in problem


def test_settings_are_kept(world: World) -> None:
    before = world.layer.inbound
    world.order(settings=Settings(volunteer=True, inbound=Inbound.REFUSE))
    world.restart()
    assert (before, world.layer.inbound) == (None, Inbound.REFUSE)
    assert world.layer.to_json()["settings"] == {"volunteer": True, "inbound": "refuse"}


def test_an_order_of_the_greatest_size(world: World) -> None:
    many = tuple(exception(BLOCK, f"n{i}.mauvais{i}.example") for i in range(200))
    never = tuple(f"service{i}.example" for i in range(500))
    world.order(exceptions=many, never_block=never)
    local = LocalPolicy(tuple(Rule(Action.ALLOW, f"a{i}.example", "", 0, 0, T0 + DAY, T0) for i in range(2000)))
    assert len(world.effective(local).rules) == 2700


# ---- the commune's own rules ---------------------------------------------------------------------------------------

names = st.sampled_from(["a.example", "b.a.example", "c.b.a.example", "other.example"])
prefixes = st.sampled_from(["203.0.113.0/24", "203.0.113.0/28", "203.0.113.3/32", "2a02:db8::/48", "2a02:db8::1/128"])
actions = st.sampled_from([Action.ALLOW, Action.BLOCK, Action.OBSERVE])
devices = st.sampled_from(["", MACS[0], MACS[1]])
own_rules = st.lists(
    st.builds(lambda a, t, d: Rule(a, t, d, 0, 0, T0 + DAY, T0), actions, st.one_of(names, prefixes), devices),
    max_size=5,
    unique_by=lambda r: r.key,
)
ordered_rules = st.lists(
    st.builds(
        lambda a, t, d: Rule(a, t, d, 0, 0, T0 + DAY, T0, "", ORDERED), actions, st.one_of(names, prefixes), devices
    ),
    max_size=6,
)


@pytest.mark.slow
@given(own_rules, ordered_rules, st.sampled_from(MACS[:3]), st.data())
@settings(max_examples=300, deadline=None)
def test_where_a_rule_of_the_commune_speaks_it_decides(
    own: list[Rule], ordered: list[Rule], device: str, data: st.DataObject
) -> None:
    """Whatever is asked, for whatever device: with a rule of the commune about it, the merged policy says the same as
    the commune's alone; without one, the department's are there."""
    merged = merge(LocalPolicy(tuple(own)), ordered, Isolation(), {}, T0)
    assert len({r.key for r in merged.rules}) == len(merged.rules), "the tables hold one rule per device and target"
    address, name = data.draw(
        st.sampled_from(
            [("203.0.113.3", ""), ("203.0.113.9", ""), ("203.0.113.200", ""), ("2a02:db8::1", ""), ("2a02:db8::2", "")]
            + [("", n) for n in ("a.example", "b.a.example", "x.c.b.a.example", "other.example")]
        )
    )
    mine = matching(own, address, name, device)
    now = matching(merged.rules, address, name, device)
    if mine:
        assert now[0].action == mine[0].action, (mine, now)
    else:
        asked = matching(ordered, address, name, device)
        assert bool(now) == bool(asked)
        if asked:
            assert now[0].key == asked[0].key and now[0].origin == ORDERED


def test_of_two_orders_about_the_same_the_exception_holds() -> None:
    block = Rule(Action.BLOCK, "a.example", "", 0, 0, T0 + DAY, T0, "", ORDERED)
    spare = Rule(Action.ALLOW, "a.example", "", 0, 0, T0 + DAY, T0, "", ORDERED)
    assert merge(LocalPolicy(), [block, spare], Isolation(), {}, T0).rules == (block,)


@given(prefixes, prefixes)
def test_covers_is_what_ipaddress_says(wide: str, target: str) -> None:
    a, b = ipaddress.ip_network(wide), ipaddress.ip_network(target)
    assert covers(wide, target) == (a.version == b.version and b.subnet_of(a))  # type: ignore[arg-type]
    assert not covers(wide, "a.example") and not covers("a.example", target)


# ---- what the base protects ----------------------------------------------------------------------------------------


def test_protected_places_of_the_base() -> None:
    assert never_name(LOOKUP, "impots.example") and never_name(LOOKUP, "www.impots.example")
    assert not never_name(LOOKUP, "example") and not never_name(LOOKUP, "toxic.example")
    for text, expected in (
        (f"{NEVER}/32", True), ("198.51.100.2/31", True), ("198.51.100.0/31", False), ("198.51.100.4/30", False),
        ("0.0.0.0/0", True), ("198.51.99.0/24", False), ("198.51.101.0/24", False), ("2a02::/16", False),
    ):  # fmt: skip
        assert never_address(LOOKUP, ipaddress.ip_network(text)) is expected, text


def test_the_file_names_no_more_than_it_needs(world: World) -> None:
    world.order(exceptions=(exception(ALLOW, "a.example", device=world.pseudonym(MACS[4])),))
    kept = world.on_disk()
    assert kept["macs"] == {world.pseudonym(MACS[4]): MACS[4]}
    world.order()
    assert world.on_disk()["macs"] == {} and BOX in json.dumps(kept)
