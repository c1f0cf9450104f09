"""French words for the codes of the data path: what `status`, `why`, `top`, `watch` and the page print."""

from __future__ import annotations

from vigie.contract.codes import Category, DeviceClass, InboundMode, Reason, Verdict
from vigie.i18n import _


def reason(code: int) -> str:
    """Why a frame was blocked (or observed), in a few words."""
    words = {
        Reason.DEFAULT: _("rien à signaler"),
        Reason.LOCAL: _("trafic local"),
        Reason.EXCEPTION: _("exception locale"),
        Reason.NEVER_BLOCK: _("service protégé, jamais bloqué"),
        Reason.LEARNING: _("connexion entrante, apprentissage en cours"),
        Reason.INBOUND_ALLOWED: _("port ouvert appris"),
        Reason.ISOLATION: _("isolement de la mairie"),
        Reason.QUARANTINE: _("appareil en quarantaine"),
        Reason.EXCEPTION_BLOCK: _("blocage décidé localement"),
        Reason.TOXIC_ADDRESS: _("adresse toxique"),
        Reason.TOXIC_DNS: _("nom toxique (question DNS)"),
        Reason.TOXIC_SNI: _("nom toxique (connexion chiffrée)"),
        Reason.DEVICE_CLASS: _("destination inhabituelle pour ce type d'appareil"),
        Reason.DYNAMIC: _("comportement suspect"),
        Reason.INBOUND: _("connexion entrante non sollicitée"),
        Reason.SPOOF: _("usurpation de l'adresse du boîtier"),
        Reason.NOT_FOR_BOX: _("tentative vers le boîtier"),
        Reason.LOOP: _("boucle de câblage"),
    }
    known = words.get(code)  # type: ignore[call-overload]
    if known is not None:
        return str(known)
    return Reason(code).name.lower() if code in set(Reason) else str(code)


def ordered(code: int) -> str:
    """The same, when it was the department that decided."""
    words = {
        Reason.EXCEPTION: _("exception demandée par le département"),
        Reason.EXCEPTION_BLOCK: _("blocage demandé par le département"),
        Reason.ISOLATION: _("isolement demandé par le département"),
        Reason.QUARANTINE: _("appareil en quarantaine, à la demande du département"),
    }
    return words.get(code) or reason(code)  # type: ignore[call-overload]


def verdict(code: int) -> str:
    """What was done."""
    return {
        Verdict.PASS: _("passe"),
        Verdict.REFUSE: _("refusé"),
        Verdict.NXDOMAIN: _("nom refusé"),
        Verdict.DROP: _("jeté"),
        Verdict.OBSERVE: _("observé"),
        Verdict.HOLD: _("en attente"),
    }[Verdict(code)]


def category(code: int) -> str:
    """What an indicator is held to be; empty for none."""
    return {
        Category.NONE: "",
        Category.MALWARE: _("logiciel malveillant"),
        Category.C2: _("commande de machines piratées"),
        Category.PHISHING: _("hameçonnage"),
        Category.SCANNER: _("balayage du réseau"),
        Category.BRUTEFORCE: _("essais de mots de passe"),
        Category.SPAM: _("courrier indésirable"),
        Category.BOTNET: _("réseau de machines piratées"),
        Category.RANSOMWARE: _("rançongiciel"),
        Category.STALKERWARE: _("logiciel espion"),
        Category.CRYPTOMINING: _("minage de cryptomonnaie"),
        Category.ANONYMISER: _("anonymisation"),
        Category.SUSPICIOUS: _("suspect"),
        Category.HIJACKED: _("adresses détournées"),
        Category.SCAM: _("escroquerie"),
        Category.DOH: _("DNS chiffré"),
        Category.TEST: _("indicateur d'essai"),
    }[Category(code)]


def device_class(code: int) -> str:
    """What a machine is."""
    return {
        DeviceClass.NONE: _("appareil inconnu"),
        DeviceClass.COMPUTER: _("ordinateur"),
        DeviceClass.CAMERA: _("caméra"),
        DeviceClass.PRINTER: _("imprimante"),
        DeviceClass.PHONE: _("téléphone"),
        DeviceClass.TV: _("télévision"),
        DeviceClass.NETWORK: _("équipement réseau"),
        DeviceClass.STORAGE: _("serveur de fichiers"),
        DeviceClass.ALARM: _("alarme"),
        DeviceClass.IOT: _("objet connecté"),
        DeviceClass.MOBILE: _("mobile"),
    }[DeviceClass(code)]


def inbound(mode: int) -> str:
    """What unsolicited inbound traffic meets."""
    return {
        InboundMode.OFF: _("non filtrées (rôles des câbles inconnus, ou réglage)"),
        InboundMode.LEARN: _("apprentissage en cours"),
        InboundMode.REFUSE: _("refusées, sauf ports appris"),
    }[InboundMode(mode)]


def alert(kind: str) -> str:
    """Name of an alert of the role machine or the loop guard."""
    words = {
        "roles-set": _("rôles des câbles établis"),
        "roles-changed": _("câbles intervertis : rôles mis à jour"),
        "gateway-changed": _("nouvelle passerelle côté internet"),
        "gateway-on-lan": _("la passerelle semble être côté mairie : usurpation possible"),
        "rogue-router": _("un appareil de la mairie se fait passer pour un routeur"),
        "rogue-dhcp": _("un appareil de la mairie distribue des adresses"),
        "link-down": _("câble débranché"),
        "link-up": _("câble branché"),
        "loop": _("les deux câbles sont sur le même équipement : un port est bloqué"),
        "loop-gone": _("boucle de câblage disparue"),
    }
    return words.get(kind, kind)


def role(name: str) -> str:
    """Role of a port."""
    return {"wan": _("internet"), "lan": _("mairie"), "unknown": _("rôle inconnu")}.get(name, name)
