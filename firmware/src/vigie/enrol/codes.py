"""Why a box is not a member of the fleet (or is): one code, one sentence for the mairie, one pattern of the lamp.

The words are append-only: they travel to the department, the page and the guardian. The authority answers an unknown
and a blocked serial alike (403), and a copy and a lost join state alike (409); the box tells them apart by what it
holds itself: with a join state it has been a member.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Final, Literal

from vigie.i18n import _


class Code(StrEnum):
    """What is the matter; MEMBER when nothing is."""

    MEMBER = "member"
    STARTING = "starting"
    NO_LINK = "no-link"
    NO_ADDRESS = "no-address"
    NO_DNS = "no-dns"
    NO_INTERNET = "no-internet"
    PORTAL = "portal"
    MQTT_BLOCKED = "8883-blocked"
    AUTHORITY_DOWN = "authority-down"
    SERVER_KEY = "server-key"
    PENDING = "pending"
    UNKNOWN = "unknown"
    BLOCKED = "blocked"
    CONFLICT = "conflict"
    CLONE = "clone"
    CLOCK = "clock"
    DISK_FULL = "disk-full"
    IDENTITY = "identity"
    EXPIRED = "expired"
    PROTOCOL = "protocol"
    DECOMMISSIONED = "decommissioned"


INFORMATION: Final = frozenset({Code.MEMBER, Code.STARTING, Code.MQTT_BLOCKED, Code.PENDING, Code.EXPIRED})
"""Codes that are no fault: told on the page, no alarm on the lamp."""


@dataclass(frozen=True, slots=True)
class Lamp:
    """What the guardian shows: `flashes` short flashes of `colour`, then a pause of a second; 0 flashes: steady."""

    colour: Literal["green", "amber", "red"]
    flashes: int


LAMPS: Final[dict[Code, Lamp]] = {
    Code.MEMBER: Lamp("green", 0),
    Code.STARTING: Lamp("green", 1),
    Code.PENDING: Lamp("green", 2),
    Code.EXPIRED: Lamp("green", 3),
    Code.MQTT_BLOCKED: Lamp("green", 4),
    Code.NO_LINK: Lamp("amber", 1),
    Code.NO_ADDRESS: Lamp("amber", 2),
    Code.NO_DNS: Lamp("amber", 3),
    Code.NO_INTERNET: Lamp("amber", 4),
    Code.PORTAL: Lamp("amber", 5),
    Code.AUTHORITY_DOWN: Lamp("amber", 6),
    Code.CLOCK: Lamp("amber", 7),
    Code.PROTOCOL: Lamp("amber", 8),
    Code.DECOMMISSIONED: Lamp("amber", 0),
    Code.UNKNOWN: Lamp("red", 1),
    Code.BLOCKED: Lamp("red", 2),
    Code.CONFLICT: Lamp("red", 3),
    Code.CLONE: Lamp("red", 4),
    Code.SERVER_KEY: Lamp("red", 5),
    Code.DISK_FULL: Lamp("red", 6),
    Code.IDENTITY: Lamp("red", 7),
}


def sentence(code: Code) -> str:
    """What to tell the mairie: what is the matter, and what to do."""
    return {
        Code.MEMBER: _("Le boîtier est rattaché au département et reçoit ses protections."),
        Code.STARTING: _("Le boîtier démarre et cherche le département."),
        Code.NO_LINK: _("Aucun câble réseau actif : vérifiez que les deux câbles sont bien branchés."),
        Code.NO_ADDRESS: _(
            "Le réseau n'a pas donné d'adresse au boîtier : vérifiez la box internet, ou fixez une adresse ici."
        ),
        Code.NO_DNS: _(
            "Le boîtier a une adresse mais ne trouve pas le nom du département : vérifiez le serveur DNS du réseau."
        ),
        Code.NO_INTERNET: _("Le boîtier n'atteint pas internet : vérifiez la box internet, puis patientez."),
        Code.PORTAL: _(
            "Un portail de connexion répond à la place du département : autorisez le boîtier sur ce portail, "
            "ou changez d'accès à internet."
        ),
        Code.MQTT_BLOCKED: _(
            "Le port 8883 est fermé sur ce réseau : le boîtier passe par le port 443, sans conséquence."
        ),
        Code.AUTHORITY_DOWN: _(
            "Le serveur du département ne répond pas : le boîtier réessaie de lui-même, il n'y a rien à faire."
        ),
        Code.SERVER_KEY: _(
            "Le serveur qui répond n'est pas celui du département : connexion refusée. "
            "Prévenez la direction du numérique."
        ),
        Code.PENDING: _("Le département a vu le boîtier et doit encore l'accepter : il n'y a rien à faire."),
        Code.UNKNOWN: _(
            "Le département ne connaît pas ce boîtier : donnez-lui l'identifiant affiché ci-dessous ou sur l'étiquette."
        ),
        Code.BLOCKED: _("Le département a retiré ce boîtier de son parc : contactez la direction du numérique."),
        Code.CONFLICT: _(
            "Ce boîtier a déjà été rattaché et sa mémoire a été effacée : la direction du numérique doit le libérer."
        ),
        Code.CLONE: _(
            "Un autre boîtier se sert de la même identité : les deux sont écartés. Prévenez la direction du numérique."
        ),
        Code.CLOCK: _("L'heure donnée par le département n'est pas plausible : prévenez la direction du numérique."),
        Code.DISK_FULL: _(
            "La mémoire du boîtier est pleine ou abîmée : il filtre encore, mais ne peut rien enregistrer. "
            "Prévenez la direction du numérique."
        ),
        Code.IDENTITY: _("Le boîtier a perdu son identité : il filtre encore, mais doit retourner à l'atelier."),
        Code.EXPIRED: _(
            "Le certificat du boîtier n'est plus valable : il en demande un autre de lui-même, il n'y a rien à faire."
        ),
        Code.PROTOCOL: _(
            "Le serveur du département a donné une réponse inattendue : le boîtier réessaie. "
            "Si cela dure, prévenez la direction du numérique."
        ),
        Code.DECOMMISSIONED: _("Ce boîtier a été retiré du service et ses clés ont été effacées."),
    }[code]
