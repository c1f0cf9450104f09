"""`vigie why`: the layers speak in the data path's order, and the first that objects wins."""

from __future__ import annotations

from dataclasses import replace
from ipaddress import ip_network

import numpy as np
import pytest

from vigie.contract.codes import Action, Category, Direction, Reason, Verdict
from vigie.errors import UsageError
from vigie.filter.base.additions import Additions
from vigie.filter.base.image import build_image
from vigie.filter.base.lookup import Lookup
from vigie.filter.base.model import NOT_LISTED, Base, ClassEntry, Intervals4, Names
from vigie.filter.base.names import name_hash, name_keys
from vigie.filter.local_policy import Isolation, LocalPolicy, Quarantined, Rule
from vigie.filter.why import Answer, Source, View, explain, parse_question

MAC = "02:00:00:00:00:01"
TOXIC, WATCHED, NEVER, PORTED = "198.51.100.1", "198.51.100.2", "198.51.100.3", "198.51.100.4"


def make_lookup() -> Lookup:
    classes = [
        NOT_LISTED,
        ClassEntry(action=Action.BLOCK, category=Category.C2, direction=Direction.OUT),
        ClassEntry(action=Action.OBSERVE, category=Category.SUSPICIOUS),
        ClassEntry(flags=2, action=Action.BLOCK, category=Category.MALWARE),
    ]
    start = np.array([0xC6336401, 0xC6336402, 0xC6336404], np.uint32)
    key, seed = name_keys()
    listed = sorted((name_hash(n, key, seed), c) for n, c in (("toxic.example", 1), ("watched.example", 2)))
    base = Base(
        serial=5,
        created=0,
        name_key=key,
        name_seed=seed,
        classes=classes,
        v4=Intervals4(start, start.copy(), np.array([1, 2, 3], np.uint8)),
        ports4=np.array([0xC6336404 << 16 | 8080], np.uint64),
        names=Names(np.array([h for h, _ in listed], np.uint64), np.array([c for _, c in listed], np.uint8)),
    )
    lists = Additions(never_names=("impots.example",), never_networks=(NEVER,), essential_names={"urgence.example": 1})
    return Lookup(build_image(base, lists, digest=False))


LOOKUP = make_lookup()
VIEW = View(LOOKUP, LocalPolicy(), (ip_network("192.0.2.0/24"),))


def local(action: Action, target: str, device: str = "", proto: int = 0, port: int = 0) -> LocalPolicy:
    return LocalPolicy((Rule(action, target, device, proto, port, 9e9, 0.0, "note"),))


def ask(target: str, view: View = VIEW, device: str = "", proto: int = 0, port: int = 0) -> Answer:
    return explain(parse_question(target, device, proto, port), view)


CASES: list[tuple[str, View, str, int, Verdict, Reason]] = [
    ("203.0.113.1", VIEW, "", 0, Verdict.PASS, Reason.DEFAULT),
    (TOXIC, VIEW, "", 0, Verdict.REFUSE, Reason.TOXIC_ADDRESS),
    (WATCHED, VIEW, "", 0, Verdict.OBSERVE, Reason.TOXIC_ADDRESS),
    (NEVER, VIEW, "", 0, Verdict.PASS, Reason.NEVER_BLOCK),
    (PORTED, VIEW, "", 8080, Verdict.REFUSE, Reason.TOXIC_ADDRESS),
    (PORTED, VIEW, "", 443, Verdict.PASS, Reason.DEFAULT),
    ("192.0.2.9", VIEW, "", 0, Verdict.PASS, Reason.LOCAL),
    ("192.0.2.66", replace(VIEW, onlink=()), "", 0, Verdict.REFUSE, Reason.TOXIC_ADDRESS),
    (TOXIC, replace(VIEW, policy=local(Action.ALLOW, TOXIC + "/32")), "", 0, Verdict.PASS, Reason.EXCEPTION),
    (TOXIC, replace(VIEW, policy=local(Action.OBSERVE, TOXIC + "/32")), "", 0, Verdict.OBSERVE, Reason.EXCEPTION),
    (TOXIC, replace(VIEW, policy=local(Action.ALLOW, TOXIC + "/32", MAC)), "", 0, Verdict.REFUSE, Reason.TOXIC_ADDRESS),
    (TOXIC, replace(VIEW, policy=local(Action.ALLOW, TOXIC + "/32", MAC)), MAC, 0, Verdict.PASS, Reason.EXCEPTION),
    (NEVER, replace(VIEW, policy=local(Action.BLOCK, NEVER + "/32")), "", 0, Verdict.REFUSE, Reason.EXCEPTION_BLOCK),
    ("203.0.113.1", replace(VIEW, dynamic=lambda _m, _a: True), "", 0, Verdict.REFUSE, Reason.DYNAMIC),
    (NEVER, replace(VIEW, dynamic=lambda _m, _a: True), "", 0, Verdict.PASS, Reason.NEVER_BLOCK),
    (TOXIC, replace(VIEW, resolved=lambda _a: (True, 0)), "", 0, Verdict.PASS, Reason.NEVER_BLOCK),
    (
        "203.0.113.1",
        replace(VIEW, device=lambda _m: (2, 0), class_action=lambda _c, _a: Action.BLOCK),
        MAC,
        0,
        Verdict.REFUSE,
        Reason.DEVICE_CLASS,
    ),
    (
        "203.0.113.1",
        replace(VIEW, policy=LocalPolicy(isolation=Isolation(2, 9e9))),
        "",
        0,
        Verdict.REFUSE,
        Reason.ISOLATION,
    ),
    (
        "urgence.example",
        replace(VIEW, policy=LocalPolicy(isolation=Isolation(3, 9e9))),
        "",
        0,
        Verdict.PASS,
        Reason.DEFAULT,
    ),
    (
        "203.0.113.1",
        replace(VIEW, policy=LocalPolicy(quarantine=(Quarantined(MAC, 9e9, 0.0),))),
        MAC,
        0,
        Verdict.REFUSE,
        Reason.QUARANTINE,
    ),
    ("www.toxic.example", VIEW, "", 0, Verdict.NXDOMAIN, Reason.TOXIC_DNS),
    ("watched.example", VIEW, "", 0, Verdict.OBSERVE, Reason.TOXIC_DNS),
    ("fine.example", VIEW, "", 0, Verdict.PASS, Reason.DEFAULT),
    ("www.impots.example", VIEW, "", 0, Verdict.PASS, Reason.NEVER_BLOCK),
    (
        "a.toxic.example",
        replace(VIEW, policy=local(Action.ALLOW, "toxic.example")),
        "",
        0,
        Verdict.PASS,
        Reason.EXCEPTION,
    ),
    (
        "impots.example",
        replace(VIEW, policy=local(Action.BLOCK, "impots.example")),
        "",
        0,
        Verdict.NXDOMAIN,
        Reason.EXCEPTION_BLOCK,
    ),
    ("use-application-dns.net", VIEW, "", 0, Verdict.NXDOMAIN, Reason.TOXIC_DNS),
    ("toxic.example", View(None, LocalPolicy()), "", 0, Verdict.PASS, Reason.DEFAULT),
    (TOXIC, View(None, LocalPolicy()), "", 0, Verdict.PASS, Reason.DEFAULT),
]


@pytest.mark.parametrize(("target", "view", "device", "port", "verdict", "reason"), CASES)
def test_verdicts(target: str, view: View, device: str, port: int, verdict: Verdict, reason: Reason) -> None:
    answer = ask(target, view, device, 6 if port else 0, port)
    assert (Verdict(answer.verdict), Reason(answer.reason)) == (verdict, reason), answer
    deciding = [o for o in answer.opinions if o.decides]
    assert bool(deciding) == (reason is not Reason.DEFAULT)
    assert target in answer.sentence


def test_indicator_category_and_sources() -> None:
    feeds = (Source("feed", "https://feed.example/", int(Category.C2)),)
    answer = ask("www.toxic.example", replace(VIEW, sources=lambda _q: feeds))
    assert (answer.indicator, answer.category, answer.sources) == ("toxic.example", int(Category.C2), feeds)
    assert ask("fine.example", replace(VIEW, sources=lambda _q: feeds)).sources == ()


def test_every_layer_speaks_in_order() -> None:
    assert [o.layer for o in ask(TOXIC).opinions] == [
        "isolation",
        "quarantine",
        "exceptions",
        "never",
        "toxic-address",
        "device-class",
        "dynamic",
    ]
    assert [o.layer for o in ask("a.example").opinions] == [
        "isolation",
        "quarantine",
        "exceptions",
        "never",
        "toxic-name",
    ]


@pytest.mark.parametrize("target", ["192.0.2.0/24", "word", "", "1.2.3"])
def test_what_cannot_be_asked(target: str) -> None:
    with pytest.raises(UsageError):
        parse_question(target)


def test_orders_of_the_department_are_named_as_such() -> None:
    def policy(action: Action, target: str) -> LocalPolicy:
        return LocalPolicy((Rule(action, target, "", 0, 0, 9e9, 0.0, "", "department"),))

    answer = ask("mauvais.example", replace(VIEW, policy=policy(Action.BLOCK, "mauvais.example")))
    assert "règle du département" in next(o.text for o in answer.opinions if o.decides)
    assert answer.sentence.endswith("blocage demandé par le département.")
    answer = ask(TOXIC, replace(VIEW, policy=policy(Action.ALLOW, f"{TOXIC}/32")))
    assert answer.sentence.endswith("exception demandée par le département.")
    # What decides is the base: the order about something else is not named.
    answer = ask(TOXIC, replace(VIEW, policy=policy(Action.ALLOW, "198.51.100.9/32")))
    assert "département" not in answer.sentence
    held = LocalPolicy(
        quarantine=(Quarantined(MAC, 9e9, 0.0, "department"),), isolation=Isolation(2, 9e9, "department")
    )
    answer = ask("exemple.fr", replace(VIEW, policy=held), device=MAC)
    assert answer.sentence.endswith("isolement demandé par le département.")
    answer = ask("exemple.fr", replace(VIEW, policy=replace(held, isolation=Isolation())), device=MAC)
    assert answer.sentence.endswith("à la demande du département.")
