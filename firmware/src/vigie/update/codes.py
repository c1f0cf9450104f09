"""Why an update did not happen: one code for programs, one French sentence for people."""

from __future__ import annotations

from enum import StrEnum

from vigie.errors import VigieError
from vigie.i18n import _


class Code(StrEnum):
    """Where the updater stands. On the page and in diagnostics: append only."""

    STARTING = "starting"
    UP_TO_DATE = "up-to-date"
    UPDATED = "updated"
    NOTHING = "nothing"
    NOT_ENROLLED = "not-enrolled"
    NO_INTERNET = "no-internet"
    NO_DNS = "no-dns"
    PROXY = "proxy"
    SERVER_KEY = "server-key"
    UNREACHABLE = "unreachable"
    HTTP = "http"
    SLOW = "slow"
    TOO_LARGE = "too-large"
    INCOMPLETE = "incomplete"
    SIGNATURE = "signature"
    ROLLBACK = "rollback"
    EXPIRED = "expired"
    MISMATCH = "mismatch"
    MALFORMED = "malformed"
    MISSING = "missing"
    OLDER = "older"
    LEAP = "leap"
    TRUST = "trust"
    DISK_FULL = "disk-full"
    DISK = "disk"
    FILTER = "filter"
    REFUSED = "refused"


#: Nothing to worry about.
FINE = frozenset({Code.STARTING, Code.UP_TO_DATE, Code.UPDATED, Code.NOTHING, Code.NOT_ENROLLED})


class UpdateError(VigieError):
    """An update did not happen; what is in force stays. code: why."""

    def __init__(self, code: Code, detail: str) -> None:
        self.code = code
        super().__init__(detail)


def sentence(code: str) -> str:
    """What a code means, for people."""
    return {
        Code.STARTING: _("La mise à jour démarre."),
        Code.UP_TO_DATE: _("La base toxique est à jour."),
        Code.UPDATED: _("La base toxique vient d'être mise à jour."),
        Code.NOTHING: _("Le département n'a pas encore publié de base : celle d'origine reste en service."),
        Code.NOT_ENROLLED: _("Le boîtier n'est pas encore rattaché : la base d'origine reste en service."),
        Code.NO_INTERNET: _("Le boîtier n'a pas d'accès à internet : il réessaie de lui-même."),
        Code.NO_DNS: _("Le nom du serveur de mises à jour ne se résout pas : vérifiez le DNS."),
        Code.PROXY: _("Le serveur mandataire (proxy) de la mairie ne laisse pas passer les mises à jour."),
        Code.SERVER_KEY: _("Le serveur qui répond n'est pas celui du département : rien n'a été pris."),
        Code.UNREACHABLE: _("Le serveur de mises à jour ne répond pas : le boîtier réessaie de lui-même."),
        Code.HTTP: _("Le serveur de mises à jour a répondu par une erreur."),
        Code.SLOW: _("Le téléchargement est trop lent : il reprendra où il s'est arrêté."),
        Code.TOO_LARGE: _("Le serveur envoie plus que ce qui est annoncé : rien n'a été pris."),
        Code.INCOMPLETE: _("Le téléchargement s'est interrompu : il reprendra où il s'est arrêté."),
        Code.SIGNATURE: _("Ce que le serveur publie n'est pas signé comme il faut : rien n'a été pris."),
        Code.ROLLBACK: _("Le serveur publie du plus ancien que ce que le boîtier a déjà vu : rien n'a été pris."),
        Code.EXPIRED: _("Ce que le serveur publie est périmé : la base en service reste, prévenez le département."),
        Code.MISMATCH: _("Un fichier reçu n'est pas celui qui est signé : il a été jeté."),
        Code.MALFORMED: _("Ce que le serveur publie est incompréhensible : la base en service reste."),
        Code.MISSING: _("Un fichier annoncé n'est pas publié : la base en service reste."),
        Code.OLDER: _("La base publiée est plus ancienne que celle du boîtier : elle est ignorée."),
        Code.LEAP: _("Le numéro de la base publiée est invraisemblable : elle est ignorée, prévenez le département."),
        Code.TRUST: _("Les clés publiques du département manquent sur ce boîtier : il doit retourner à l'atelier."),
        Code.DISK_FULL: _("La mémoire du boîtier est pleine : la base en service reste."),
        Code.DISK: _("La mémoire du boîtier ne se laisse pas écrire : la base en service reste."),
        Code.FILTER: _("Le filtrage ne répond pas : la base sera mise en service plus tard."),
        Code.REFUSED: _("La base publiée dépasse ce que le boîtier accepte : celle en service reste."),
    }.get(Code(code), code) if code in set(Code) else code  # fmt: skip
