"""French words for the codes that boxes report."""

from __future__ import annotations

from vigie.contract.codes import Category, DeviceClass, Direction
from vigie.contract.firmware import Check, Phase, UpdateCode
from vigie.contract.words import DesiredStatus, FilterHealth, Inbound, Op, Result
from vigie_department.console import roles
from vigie_department.rollout.engine import NO_WAY
from vigie_department.texts import _


def rule(word: str) -> str:
    """What raised an alert; the word itself when it is newer than this console."""
    return {
        "toxic-address": _("adresse toxique"),
        "toxic-name": _("nom toxique"),
        "local-block": _("blocage décidé par la mairie"),
        "department-block": _("blocage décidé par le département"),
        "device-class": _("destination inhabituelle pour ce type d'appareil"),
        "dynamic": _("comportement suspect"),
        "isolation": _("isolement"),
        "quarantine": _("quarantaine"),
        "inbound": _("connexion entrante non sollicitée"),
        "spoof": _("usurpation de l'adresse du boîtier"),
        "roles-set": _("rôles des câbles établis"),
        "roles-changed": _("câbles intervertis"),
        "gateway-changed": _("nouvelle passerelle côté internet"),
        "gateway-on-lan": _("la passerelle semble être côté mairie"),
        "rogue-router": _("un appareil se fait passer pour un routeur"),
        "rogue-dhcp": _("un appareil distribue des adresses"),
        "link-down": _("câble débranché"),
        "link-up": _("câble branché"),
        "loop": _("boucle de câblage"),
        "loop-gone": _("boucle de câblage disparue"),
        "self-test-failed": _("autotest échoué"),
        "outbox-loss": _("alertes perdues, file pleine"),
        "schema-refused": _("message refusé par le boîtier lui-même"),
        "order-refused": _("ordre refusé"),
        "local-lift": _("isolement levé sur place"),
        "update-failed": _("mise à jour échouée"),
        "clock-wrong": _("horloge fausse"),
        "disk-full": _("disque plein"),
        "beacon": _("appels réguliers vers un serveur"),
        "exfiltration": _("envoi massif de données"),
        "scan": _("balayage du réseau"),
        "tunnel": _("tunnel caché"),
        "new-country": _("pays inhabituel"),
        "unusual-hours": _("activité à une heure inhabituelle"),
        # the authority's, about an identity
        "conflict": _("déjà inscrit, revient sans sa preuve : à vérifier"),
        "clone": _("deux boîtiers pour une identité"),
    }.get(word, word)


def category(code: int) -> str:
    """What an indicator is held to be."""
    known: dict[int, str] = {
        Category.NONE: _("non précisée"),
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
    }
    return known.get(code, str(code))


def direction(code: int) -> str:
    """Who opened what was blocked."""
    known: dict[int, str] = {
        Direction.BOTH: _("les deux"),
        Direction.OUT: _("de la mairie vers internet"),
        Direction.IN: _("d'internet vers la mairie"),
    }
    return known.get(code, str(code))


def device_class(code: int) -> str:
    """What a machine is."""
    known: dict[int, str] = {
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
    }
    return known.get(code, str(code))


def health(name: str) -> str:
    """How a box's filter is."""
    known: dict[str, str] = {
        FilterHealth.OK: _("bon"),
        FilterHealth.DEGRADED: _("dégradé"),
        FilterHealth.DOWN: _("arrêté"),
    }
    return known.get(name, name or "-")


def inbound(name: str) -> str:
    """What happens to unsolicited inbound traffic."""
    known: dict[str, str] = {
        Inbound.OFF: _("non surveillées"),
        Inbound.LEARN: _("apprendre"),
        Inbound.REFUSE: _("refuser"),
    }
    return known.get(name, name or "-")


def result(name: str) -> str:
    """What became of an order."""
    known: dict[str, str] = {
        DesiredStatus.NONE: _("aucun ordre"),
        Result.IN_FORCE: _("en vigueur"),
        Result.PARTIAL: _("en vigueur en partie"),
        Result.REFUSED: _("refusé"),
        Result.EXPIRED: _("expiré"),
        Result.DONE: _("fait"),
        Result.FAILED: _("échec"),
    }
    return known.get(name, name or "-")


def isolation(level: int) -> str:
    """Level in force."""
    return {
        0: "-",
        1: _("1 : vigilance"),
        2: _("2 : services essentiels"),
        3: _("3 : coupé"),
    }.get(level, str(level))


def isolated(level: int, wanted: int | None) -> str:
    """Level in force, and the one that waits on its way to the box (None: nothing waits)."""
    if wanted is None or wanted == level:
        return isolation(level)
    if wanted == 0:
        return _("{now} (levée en attente)").format(now=isolation(level))
    if level == 0:
        return _("{wanted} (en attente)").format(wanted=isolation(wanted))
    return _("{now} → {wanted} (en attente)").format(now=isolation(level), wanted=isolation(wanted))


def orders(sent: int | None, has: int | None, answer: str) -> str:
    """Where the last document is: not there yet, or what the box made of it. sent, has: versions."""
    if sent is None:
        return "-"
    if waits(sent, has, answer):
        return _("en attente")
    return result(answer) if answer else _("reçus")


def waits(sent: int | None, has: int | None, answer: str) -> bool:
    """Whether the last document is not on the box yet, as far as we know."""
    return sent is not None and not answer and sent > (has or 0)


def role(name: str) -> str:
    """A role of the console, whose name in the database is French."""
    return {
        roles.READER: _("Lecteur"),
        roles.OPERATOR: _("Opérateur"),
        roles.ADMINISTRATOR: _("Administrateur"),
    }.get(name, name)


def op(name: str) -> str:
    """A command."""
    known: dict[str, str] = {
        Op.SELF_TEST: _("autotest"),
        Op.DIAGNOSTICS: _("diagnostic"),
        Op.RESTART: _("redémarrage d'un service"),
    }
    return known.get(name, name)


def update_phase(name: str) -> str:
    """How far a box is with an update."""
    known: dict[str, str] = {
        Phase.IDLE: _("rien à faire"),
        Phase.WAITING: _("attend son moment"),
        Phase.POSTPONED: _("reportée par la mairie"),
        Phase.DOWNLOADING: _("téléchargement"),
        Phase.INSTALLING: _("installation"),
        Phase.REBOOT: _("va redémarrer"),
        Phase.SOAK: _("nouveau système à l'essai"),
        Phase.GOOD: _("installée"),
        Phase.ROLLED_BACK: _("revenu à l'ancien système"),
        Phase.FAILED: _("échec"),
    }
    return known.get(name, name or "-")


def update_code(name: str) -> str:
    """Why an update waits or failed."""
    known: dict[str, str] = {
        UpdateCode.NO_SPACE: _("plus de place"),
        UpdateCode.BAD_SIGNATURE: _("signature fausse"),
        UpdateCode.OTHER_BOARD: _("pas pour cette carte"),
        UpdateCode.OLDER: _("version plus ancienne"),
        UpdateCode.STEP_MISSING: _("une version intermédiaire manque"),
        UpdateCode.UNKNOWN_VERSION: _("version absente du dépôt"),
        UpdateCode.FROZEN: _("dépôt figé"),
        UpdateCode.EXPIRED: _("métadonnées expirées"),
        UpdateCode.TOO_LARGE: _("trop gros"),
        UpdateCode.TRUNCATED: _("fichier tronqué"),
        UpdateCode.MISMATCH: _("ce n'est pas le fichier annoncé"),
        UpdateCode.NO_NETWORK: _("pas de réseau"),
        UpdateCode.CLOCK: _("heure inconnue"),
        UpdateCode.EARLY: _("trop tôt"),
        UpdateCode.WINDOW: _("hors des heures permises"),
        UpdateCode.TRIES_SPENT: _("essais épuisés"),
        UpdateCode.INSTALL: _("l'écriture a échoué"),
        UpdateCode.UNHEALTHY: _("un contrôle a échoué"),
        UpdateCode.NOT_STARTED: _("le nouveau système n'a pas démarré"),
        UpdateCode.ACTIVATION_LOST: _("redémarrage sans changement de système"),
        NO_WAY: _("aucune version publiée n'y mène"),
    }
    return known.get(name, name or "-")


def update_check(name: str) -> str:
    """What a new system did not manage."""
    known: dict[str, str] = {
        Check.FORWARD: _("laisser passer le trafic"),
        Check.DATAPATH: _("filtrage en service"),
        Check.BASE: _("base toxique chargée"),
        Check.LINK: _("lien avec le département"),
        Check.DISK: _("disque"),
        Check.MEMORY: _("mémoire"),
        Check.SELFTEST: _("autotest"),
        Check.TIME: _("heure"),
    }
    return known.get(name, name or "-")


def action(name: str) -> str:
    """An audit entry's action, for people who read a box's history."""
    return {
        "authority.registered": _("entré au registre"),
        "authority.enrolled": _("certificat délivré"),
        "authority.confirmed": _("inscrit"),
        "authority.renewed": _("certificat renouvelé"),
        "authority.conflict": _("conflit d'identité"),
        "authority.clone": _("clone détecté"),
        "authority.released": _("débloqué par l'autorité"),
        "authority.revoked": _("révoqué par l'autorité"),
        "authority.decommissioned": _("mis hors service"),
        "authority.blocked": _("bloqué par l'autorité"),
        "authority.unblocked": _("blocage levé par l'autorité"),
        "box.show": _("fiche consultée"),
        "alert.show": _("alerte consultée"),
        "exceptionrequest.show": _("demande consultée"),
        "diagnostic.show": _("diagnostic consulté"),
        "box.edit": _("fiche modifiée"),
        "box.assign": _("commune changée"),
        "box.release": _("déblocage demandé"),
        "box.revoke": _("révocation"),
        "box.replaced": _("remplacé"),
        "box.replaces": _("en remplace un autre"),
        "box.unknown": _("apparu sans être au registre"),
        "desired.sign": _("ordres signés et envoyés"),
        "exception.add": _("exception ajoutée"),
        "exception.remove": _("exception retirée"),
        "isolation.order": _("isolement ordonné"),
        "isolation.lift": _("isolement levé"),
        "quarantine.order": _("quarantaine ordonnée"),
        "quarantine.lift": _("quarantaine levée"),
        "message.aside": _("message illisible mis de côté"),
        "alert.handled": _("alerte traitée"),
        "request.grant": _("demande accordée"),
        "request.refuse": _("demande refusée"),
        "command.self-test": _("autotest demandé"),
        "command.diagnostics": _("diagnostic demandé"),
        "command.restart": _("redémarrage demandé"),
        "firmware.order": _("mise à jour ordonnée"),
        "firmware.withdraw": _("ordre de mise à jour retiré"),
        "firmware.good": _("mise à jour installée"),
        "firmware.failed": _("mise à jour en échec"),
        "firmware.silent": _("muet depuis l'ordre de mise à jour"),
        "firmware.late": _("mise à jour trop longue"),
        "firmware.absent": _("absent, sera mis à jour à son retour"),
        "firmware.left": _("retiré du déploiement"),
        "rollout.plan": _("déploiement prévu"),
        "rollout.start": _("déploiement commencé"),
        "rollout.pause": _("déploiement suspendu"),
        "rollout.resume": _("déploiement repris"),
        "rollout.abort": _("déploiement abandonné"),
        "rollout.wave": _("vague suivante"),
        "rollout.stop": _("déploiement arrêté, trop d'échecs"),
        "rollout.done": _("déploiement terminé"),
        "freeze.add": _("gel des mises à jour prévu"),
        "freeze.remove": _("gel des mises à jour annulé"),
        "neverblock.add": _("protection ajoutée"),
        "neverblock.remove": _("protection retirée"),
        "essential.add": _("service essentiel ajouté"),
        "essential.remove": _("service essentiel retiré"),
        "mass.prepare": _("ordre groupé préparé"),
        "mass.send": _("ordre groupé envoyé"),
        "claim.wait": _("attribution en attente"),
        "commune.import": _("communes importées"),
        "commune.edit": _("commune modifiée"),
        "commune.delete": _("commune supprimée"),
        "login": _("connexion"),
        "logout": _("déconnexion"),
        "login.failed": _("mot de passe refusé"),
        "login.second-factor": _("second facteur accepté"),
        "login.second-factor-failed": _("second facteur refusé"),
        "user.add": _("personne ajoutée"),
        "user.edit": _("personne modifiée"),
        "user.password": _("mot de passe changé"),
        "user.enrol-factor": _("second facteur réglé"),
        "user.reset-factor": _("second facteur oublié"),
    }.get(name, name)
