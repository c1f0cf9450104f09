"""What to do about what the authority publishes: a function of what is in force, what is offered, and the time."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final

from vigie_department.broker.acl import access_list
from vigie_department.broker.crl import Bundle, date, older
from vigie_department.texts import _

WARN_S: Final = 14 * 86400
"""before the end of the lists; the authority renews them daily, so that a warning means days without it"""
AHEAD_S: Final = 60
"""how far the authority's clock may be ahead of ours: mosquitto refuses everybody under a list of the future"""


@dataclass(frozen=True, slots=True)
class InForce:
    """What mosquitto reads. `crl` None: nothing yet, mosquitto does not start."""

    crl: Bundle | None
    denied: frozenset[str]


@dataclass(frozen=True, slots=True)
class Offered:
    """What the authority publishes; a text instead says why it cannot be used."""

    crl: Bundle | str
    denied: frozenset[str] | str


@dataclass(frozen=True, slots=True)
class Problem:
    """`code` is for programs (append-only), `text` for the operator."""

    code: str
    text: str


@dataclass(frozen=True, slots=True)
class Decision:
    """Write `crl` and `acl` when they are not None, then reload when `reload`, then end the sessions of `cut`."""

    in_force: InForce
    crl: bytes | None = None
    acl: str | None = None
    cut: frozenset[str] = frozenset()
    problems: tuple[Problem, ...] = field(default=())

    @property
    def reload(self) -> bool:
        return self.crl is not None or self.acl is not None


def decide(before: InForce, offered: Offered, now: float) -> Decision:
    """Nothing that is offered can open what was closed, except a list of denied boxes that is whole and shorter."""
    problems: list[Problem] = []
    crl, crl_text = _crl(before, offered, now, problems)
    denied = before.denied
    if isinstance(offered.denied, str):
        problems.append(Problem("denied-unusable", offered.denied))
    else:
        denied = offered.denied
    acl = access_list(denied) if denied != before.denied else None
    if crl is not None:
        problems += _dates(crl, now)
    # After a new revocation list every denied box is cut again: one that came back in between still has a session.
    cut = denied if crl_text is not None else denied - before.denied
    return Decision(InForce(crl, denied), crl_text, acl, cut, tuple(problems))


def _crl(before: InForce, offered: Offered, now: float, problems: list[Problem]) -> tuple[Bundle | None, bytes | None]:
    """The bundle in force from now on, and its text when it has to be written."""
    new = offered.crl
    if isinstance(new, str):
        problems.append(Problem("crl-unusable", new))
        return before.crl, None
    if before.crl is not None:
        if new.pem == before.crl.pem:
            return before.crl, None
        if reason := older(new, before.crl):
            problems.append(Problem("crl-older", reason))
            return before.crl, None
        if new.expires <= now < before.crl.expires:
            problems.append(Problem("crl-unusable", _("liste de révocation publiée déjà périmée")))
            return before.crl, None
    if any(one.since > now + AHEAD_S for one in new.lists):
        problems.append(Problem("crl-unusable", _("liste de révocation datée de l'avenir : vérifiez les horloges")))
        return before.crl, None
    return new, new.pem


def _dates(crl: Bundle, now: float) -> list[Problem]:
    if crl.expires <= now:
        text = _("La liste de révocation est périmée depuis le {date} : plus aucun boîtier ne peut se connecter. "
                 "Relancez vigie-authority, qui en publie une nouvelle.")  # fmt: skip
        return [Problem("crl-expired", text.format(date=date(crl.expires)))]
    if crl.expires - now < WARN_S:
        text = _("La liste de révocation expire le {date} ; ce jour-là plus aucun boîtier ne pourra se connecter. "
                 "vigie-authority ne la renouvelle plus : vérifiez ce service.")  # fmt: skip
        return [Problem("crl-ends-soon", text.format(date=date(crl.expires)))]
    return []
