"""`vigie why`: each layer's opinion on an address or a name, in the order in which the data path asks them.

Pure: everything comes in by `View`. The order and the meaning of the layers are those of `docs/datapath.md`.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from vigie.contract.codes import Action, DeviceClass, Reason, Verdict
from vigie.errors import UsageError
from vigie.filter import wording
from vigie.filter.base.lookup import Lookup
from vigie.filter.base.model import NOT_LISTED, ClassEntry
from vigie.filter.hold_names import NameKind, Suffix, judge
from vigie.filter.local_policy import LocalPolicy, Rule, canonical_device, canonical_target, matching
from vigie.filter.zones import Network
from vigie.i18n import _

OFF = (Action.BLOCK, Action.OBSERVE)
LEVEL3_RANKS = 2


@dataclass(frozen=True, slots=True)
class Question:
    """What is asked: exactly one of address and name; device is a MAC or ""; port 0 is any."""

    address: str = ""
    name: str = ""
    device: str = ""
    proto: int = 0
    port: int = 0


@dataclass(frozen=True, slots=True)
class Source:
    """A feed that lists the indicator."""

    feed: str
    source: str
    category: int


@dataclass(frozen=True, slots=True)
class View:
    """What the layers hold. `resolved(address)`: (never, rank) learnt from DNS answers; `dynamic(mac, address)`;
    `device(mac)`: (class, essential rank); `sources(indicator question)`: feeds; `protected_by(name)`: why never."""

    lookup: Lookup | None
    policy: LocalPolicy
    onlink: Sequence[Network] = ()
    resolved: Callable[[str], tuple[bool, int] | None] = lambda _address: None
    dynamic: Callable[[str, str], bool] = lambda _mac, _address: False
    device: Callable[[str], tuple[int, int]] = lambda _mac: (0, 0)
    class_action: Callable[[int, str], Action] = lambda _class, _address: Action.NONE
    port_rank: Callable[[int, int], int] = lambda _proto, _port: 0
    sources: Callable[[Question], tuple[Source, ...]] = lambda _question: ()
    protected_by: Callable[[str], str] = lambda _name: ""


@dataclass(frozen=True, slots=True)
class Opinion:
    """One layer: `opinion` is block, observe, spare or none; `decides` marks the one that settled the verdict."""

    layer: str
    title: str
    opinion: str
    text: str
    decides: bool = False


@dataclass(frozen=True, slots=True)
class Answer:
    """The verdict (a Verdict number), its reason (a Reason number), a sentence, and the opinions in order."""

    target: str
    device: str
    verdict: int
    reason: int
    sentence: str
    indicator: str
    category: int
    opinions: tuple[Opinion, ...]
    sources: tuple[Source, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """For the API."""
        return asdict(self)


@dataclass(slots=True)
class _Walk:
    """The layers' opinions so far, and what they amount to."""

    opinions: list[Opinion] = field(default_factory=list)
    blocked: Reason | None = None
    spared: Reason | None = None
    observed: Reason | None = None
    indicator: str = ""
    category: int = 0
    ordered: set[Reason] = field(default_factory=set)  # reasons that are orders of the department

    def say(
        self, layer: str, title: str, opinion: str, text: str, reason: Reason | None = None, origin: str = ""
    ) -> None:
        decides = False
        if self.blocked is None and reason is not None:
            if opinion == "block":
                self.blocked, decides = reason, True
            elif opinion == "spare" and self.spared is None:
                self.spared, decides = reason, True
            elif opinion == "observe" and self.observed is None:
                self.observed, decides = reason, True
        if decides and reason is not None and origin:
            self.ordered.add(reason)
        self.opinions.append(Opinion(layer, title, opinion, text, decides))


def parse_question(target: str, device: str = "", proto: int = 0, port: int = 0) -> Question:
    """The question behind what a person typed. Raises UsageError."""
    mac = canonical_device(device)
    text = canonical_target(target)
    if "/" not in text:
        return Question(name=text, device=mac, proto=proto, port=port)
    network = ipaddress.ip_network(text)
    if network.prefixlen != network.max_prefixlen:
        raise UsageError(_("« {text} » est un préfixe : demandez une adresse ou un nom").format(text=target))
    return Question(address=str(network.network_address), device=mac, proto=proto, port=port)


def explain(question: Question, view: View) -> Answer:
    """Every layer's opinion."""
    walk = _Walk()
    if question.address and _is_local(question.address, view):
        walk.say("local", _("Réseau local"), "spare", _("adresse du réseau local : jamais filtrée"), Reason.LOCAL)
        _quarantine(walk, question, view)
        return _answer(walk, question, view)
    _isolation(walk, question, view)
    _quarantine(walk, question, view)
    if question.address:
        _exceptions(walk, question, view)
        _never_address(walk, question, view)
        _toxic_address(walk, question, view)
        _device_class(walk, question, view)
        _dynamic(walk, question, view)
    else:
        _names(walk, question, view)
    return _answer(walk, question, view)


def _is_local(address: str, view: View) -> bool:
    one = ipaddress.ip_address(address)
    return one.is_link_local or any(one.version == n.version and one in n for n in view.onlink)


def _isolation(walk: _Walk, q: Question, view: View) -> None:
    title, level = _("Isolement"), view.policy.isolation.level
    if level < 2:
        walk.say("isolation", title, "none", _("pas d'isolement") if not level else _("niveau 1 : rien de coupé"))
        return
    ranks = [r for r in (_rank(q, view), view.port_rank(q.proto, q.port), view.device(q.device)[1]) if r]
    kept = bool(ranks) and (level == 2 or min(ranks) <= LEVEL3_RANKS)
    if kept:
        text = _("niveau {level} : service essentiel de rang {rank}, gardé").format(level=level, rank=min(ranks))
        walk.say("isolation", title, "none", text)
    else:
        origin = view.policy.isolation.origin
        text = _("niveau {level} : pas un service essentiel").format(level=level)
        if origin:
            text = _("niveau {level}, à la demande du département : pas un service essentiel").format(level=level)
        walk.say("isolation", title, "block", text, Reason.ISOLATION, origin)


def _rank(q: Question, view: View) -> int:
    if view.lookup is None:
        return 0
    if q.name:
        found = [view.lookup.classes[c].rank for _suffix, c in view.lookup.suffixes(q.name)]
        return min((r for r in found if r), default=0)
    learnt = view.resolved(q.address)
    ranks = [_entry(q.address, view).rank, learnt[1] if learnt else 0]
    return min((r for r in ranks if r), default=0)


def _quarantine(walk: _Walk, q: Question, view: View) -> None:
    title = _("Quarantaine")
    if not q.device:
        walk.say("quarantine", title, "none", _("aucun appareil demandé (--device)"))
        return
    held = next((held for held in view.policy.quarantine if held.mac == q.device), None)
    if held is not None:
        text = _("{mac} est en quarantaine").format(mac=q.device)
        if held.origin:
            text = _("{mac} est en quarantaine, à la demande du département").format(mac=q.device)
        walk.say("quarantine", title, "block", text, Reason.QUARANTINE, held.origin)
    else:
        walk.say("quarantine", title, "none", _("{mac} n'est pas en quarantaine").format(mac=q.device))


def _exceptions(walk: _Walk, q: Question, view: View) -> None:
    title = _("Règles locales")
    rules = [r for r in matching(view.policy.rules, q.address, "", q.device) if not r.is_name]
    # As the kernel's trie: the longest prefix for the device, else the longest for any; ports are looked at after.
    for device in dict.fromkeys((q.device, "")):
        rule = next((r for r in rules if r.device == device), None)
        if rule is not None and _port_agrees(rule, q):
            walk.indicator = walk.indicator or rule.target
            _say_rule(walk, title, rule.action, rule)
            return
    walk.say("exceptions", title, "none", _("aucune règle locale"))


def _port_agrees(rule: Rule, q: Question) -> bool:
    return (not rule.proto or rule.proto == q.proto) and (not rule.port or rule.port == q.port)


def _say_rule(walk: _Walk, title: str, action: Action, rule: Rule | None, name: str = "") -> None:
    target = rule.target if rule else name
    note = f" ({rule.note})" if rule and rule.note else ""
    origin = rule.origin if rule else ""
    texts = {
        Action.BLOCK: _("règle locale : {target} est bloqué"),
        Action.ALLOW: _("règle locale : {target} est autorisé"),
        Action.OBSERVE: _("règle locale : {target} est observé"),
    }
    if origin:
        texts = {
            Action.BLOCK: _("règle du département : {target} est bloqué"),
            Action.ALLOW: _("règle du département : {target} est autorisé"),
            Action.OBSERVE: _("règle du département : {target} est observé"),
        }
    text = texts[action].format(target=target) + note
    if action is Action.BLOCK:
        walk.say("exceptions", title, "block", text, Reason.EXCEPTION_BLOCK, origin)
    elif action is Action.ALLOW:
        walk.say("exceptions", title, "spare", text, Reason.EXCEPTION, origin)
    else:
        walk.say("exceptions", title, "observe", text, Reason.EXCEPTION, origin)
        walk.spared = walk.spared or Reason.EXCEPTION


def _entry(address: str, view: View) -> ClassEntry:
    return view.lookup.classes[view.lookup.address(address)] if view.lookup else NOT_LISTED


def _never_address(walk: _Walk, q: Question, view: View) -> None:
    title = _("Jamais bloqué")
    learnt = view.resolved(q.address)
    if _entry(q.address, view).never:
        walk.say("never", title, "spare", _("adresse de la liste à ne jamais bloquer"), Reason.NEVER_BLOCK)
    elif learnt and learnt[0]:
        text = _("un nom protégé vient de désigner cette adresse")
        walk.say("never", title, "spare", text, Reason.NEVER_BLOCK)
    else:
        walk.say("never", title, "none", _("pas dans la liste à ne jamais bloquer"))


def _toxic_address(walk: _Walk, q: Question, view: View) -> None:
    title = _("Base toxique (adresse)")
    if view.lookup is None:
        walk.say("toxic-address", title, "none", _("aucune base chargée"))
        return
    entry = _entry(q.address, view)
    if entry.action not in OFF:
        walk.say("toxic-address", title, "none", _("adresse non listée"))
        return
    category = wording.category(entry.category)
    walk.category = walk.category or int(entry.category)
    walk.indicator = walk.indicator or q.address
    text = _("adresse listée : {category}").format(category=category)
    if entry.ports_only:
        ports = view.lookup.ports(q.address)
        text += _(", ports {ports}").format(ports=", ".join(map(str, ports))) if ports else _(", certains ports")
        if q.port and not view.lookup.port_listed(q.address, q.port):
            walk.say("toxic-address", title, "none", text + _(" ; pas le port {port}").format(port=q.port))
            return
    if entry.direction:
        text += _(" (si la mairie l'appelle)") if entry.direction == 1 else _(" (si elle appelle la mairie)")
    if walk.spared is not None:
        walk.say("toxic-address", title, "none", text + _(" ; épargnée par une couche précédente"))
    elif entry.action is Action.OBSERVE:
        walk.say("toxic-address", title, "observe", text, Reason.TOXIC_ADDRESS)
    else:
        walk.say("toxic-address", title, "block", text, Reason.TOXIC_ADDRESS)


def _names(walk: _Walk, q: Question, view: View) -> None:
    suffixes = _suffixes(q, view)
    found = judge(suffixes)
    local_title, never_title, toxic_title = _("Règles locales"), _("Jamais bloqué"), _("Base toxique (nom)")
    local = found.suffix.rule if found.suffix else Action.NONE
    if local is not Action.NONE and found.suffix is not None:
        rule = next(
            (r for r in matching(view.policy.rules, "", q.name, q.device) if r.target == found.suffix.name), None
        )
        walk.indicator = found.suffix.name
        _say_rule(walk, local_title, local, rule, found.suffix.name)
    else:
        walk.say("exceptions", local_title, "none", _("aucune règle locale"))
    never = next((s for s in reversed(suffixes) if s.entry and s.entry.never), None)
    if never is None:
        walk.say("never", never_title, "none", _("pas dans la liste à ne jamais bloquer"))
    else:
        why = view.protected_by(never.name)
        text = _("{name} est dans la liste à ne jamais bloquer").format(name=never.name) + (f" ({why})" if why else "")
        reason = Reason.NEVER_BLOCK if found.kind is NameKind.NEVER else None
        walk.say("never", never_title, "spare" if reason else "none", text, reason)
    listed = next((s for s in reversed(suffixes) if s.entry and s.entry.action in OFF), None)
    if view.lookup is None:
        walk.say("toxic-name", toxic_title, "none", _("aucune base chargée"))
        return
    if listed is None or listed.entry is None:
        walk.say("toxic-name", toxic_title, "none", _("nom non listé"))
        return
    walk.category = walk.category or int(listed.entry.category)
    walk.indicator = walk.indicator or listed.name
    text = _("{name} est listé : {category}").format(name=listed.name, category=wording.category(listed.entry.category))
    if found.kind is NameKind.BLOCK:
        walk.say("toxic-name", toxic_title, "block", text, Reason.TOXIC_DNS)
    elif found.kind is NameKind.OBSERVE:
        walk.say("toxic-name", toxic_title, "observe", text, Reason.TOXIC_DNS)
    else:
        walk.say("toxic-name", toxic_title, "none", text + _(" ; épargné par une couche précédente"))


def _suffixes(q: Question, view: View) -> list[Suffix]:
    """Suffixes with classes and local rules, shortest first."""
    labels = q.name.split(".")
    names = [".".join(labels[i:]) for i in range(len(labels) - 1, -1, -1)]
    classes = dict(view.lookup.suffixes(q.name)) if view.lookup else {}
    rules = matching(view.policy.rules, "", q.name, q.device)
    out = []
    for name in names:
        class_id = classes.get(name, 0)
        entry = view.lookup.classes[class_id] if view.lookup and class_id else None
        here = [r for r in rules if r.target == name]
        local = next((r.action for r in here if r.device), Action.NONE)
        anyone = next((r.action for r in here if not r.device), Action.NONE)
        out.append(Suffix(name, 0, class_id, entry, local, anyone))
    return out


def _device_class(walk: _Walk, q: Question, view: View) -> None:
    title = _("Type d'appareil")
    number = view.device(q.device)[0] if q.device else 0
    if not number:
        walk.say("device-class", title, "none", _("aucune politique pour cet appareil"))
        return
    what = wording.device_class(DeviceClass(number))
    action = view.class_action(number, q.address)
    if walk.spared is not None or action not in OFF:
        walk.say("device-class", title, "none", _("{what} : destination permise").format(what=what))
    else:
        text = _("{what} : destination hors de ce qui lui est permis").format(what=what)
        walk.say("device-class", title, "block" if action is Action.BLOCK else "observe", text, Reason.DEVICE_CLASS)


def _dynamic(walk: _Walk, q: Question, view: View) -> None:
    title = _("Blocages temporaires")
    if not view.dynamic(q.device, q.address):
        walk.say("dynamic", title, "none", _("aucun"))
    elif walk.spared is not None:
        walk.say("dynamic", title, "none", _("bloqué, mais épargné par une couche précédente"))
    else:
        walk.say("dynamic", title, "block", _("bloqué par la détection"), Reason.DYNAMIC)


def _answer(walk: _Walk, q: Question, view: View) -> Answer:
    target = q.address or q.name
    if walk.blocked is not None:
        verdict, reason = Verdict.REFUSE, walk.blocked
        if q.name and reason in (Reason.TOXIC_DNS, Reason.EXCEPTION_BLOCK):
            verdict = Verdict.NXDOMAIN
        sentence = _("{target} est bloqué : {why}.")
    elif walk.observed is not None:
        verdict, reason = Verdict.OBSERVE, walk.observed
        sentence = _("{target} passe, et est signalé : {why}.")
    else:
        verdict, reason = Verdict.PASS, walk.spared or Reason.DEFAULT
        sentence = _("{target} n'est pas bloqué : {why}.")
    listed = any(o.layer in ("toxic-address", "toxic-name") for o in walk.opinions) and walk.category
    sources = view.sources(q) if listed else ()
    words = wording.ordered(reason) if reason in walk.ordered else wording.reason(reason)
    text = sentence.format(target=target, why=words)
    return Answer(
        target, q.device, int(verdict), int(reason), text, walk.indicator, walk.category, tuple(walk.opinions), sources
    )
