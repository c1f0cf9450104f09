"""What the firmware's state means, for the mairie."""

from __future__ import annotations

from vigie.contract.firmware import Check, FirmwareState, Phase, UpdateCode
from vigie.i18n import _


def _phases() -> dict[Phase, str]:
    return {
        Phase.IDLE: _("Aucune mise à jour du boîtier n'est demandée."),
        Phase.WAITING: _("La mise à jour {version} est prévue."),
        Phase.POSTPONED: _("La mise à jour {version} est reportée à votre demande."),
        Phase.DOWNLOADING: _("La mise à jour {version} est en cours de téléchargement ; ne débranchez pas le boîtier."),
        Phase.INSTALLING: _("La mise à jour {version} s'installe à côté du système en service, qui continue."),
        Phase.REBOOT: _("La mise à jour {version} est installée : le boîtier va redémarrer, une minute sans réseau."),
        Phase.SOAK: _("La version {version} vient de démarrer : le boîtier vérifie qu'elle fonctionne."),
        Phase.GOOD: _("Le boîtier est à jour : version {version}."),
        Phase.ROLLED_BACK: _("La version {version} n'a pas convenu : le boîtier est revenu à la précédente."),
        Phase.FAILED: _("La mise à jour {version} n'a pas pu se faire : la version en service reste."),
    }


def _codes() -> dict[UpdateCode, str]:
    return {
        UpdateCode.NO_SPACE: _("La mémoire du boîtier est pleine."),
        UpdateCode.BAD_SIGNATURE: _("Ce qui est publié n'est pas signé comme il faut : rien n'a été installé."),
        UpdateCode.OTHER_BOARD: _("Cette version n'est pas faite pour ce modèle de boîtier."),
        UpdateCode.OLDER: _("Cette version est plus ancienne que ce que le boîtier accepte."),
        UpdateCode.STEP_MISSING: _("Une version intermédiaire doit être installée d'abord."),
        UpdateCode.UNKNOWN_VERSION: _("Cette version n'est pas publiée, ou plus."),
        UpdateCode.FROZEN: _("Le serveur ne donne plus de nouvelles fraîches : prévenez le département."),
        UpdateCode.EXPIRED: _("Ce que le serveur publie est périmé : prévenez le département."),
        UpdateCode.TOO_LARGE: _("Le serveur envoie plus que ce qui est signé : rien n'a été pris."),
        UpdateCode.TRUNCATED: _("Le fichier publié est incomplet : rien n'a été installé."),
        UpdateCode.MISMATCH: _("Le fichier publié n'est pas celui qui est signé : rien n'a été installé."),
        UpdateCode.NO_NETWORK: _("Le serveur de mises à jour ne répond pas : le boîtier réessaie de lui-même."),
        UpdateCode.CLOCK: _("Le boîtier attend l'heure du département avant de décider."),
        UpdateCode.EARLY: _("Elle n'est pas encore à installer."),
        UpdateCode.WINDOW: _("Elle attend une heure calme, en dehors de vos heures d'ouverture."),
        UpdateCode.TRIES_SPENT: _("Elle a échoué trois fois : le département doit en redemander une."),
        UpdateCode.INSTALL: _("L'installation n'a pas abouti."),
        UpdateCode.UNHEALTHY: _("Un contrôle n'a pas réussi."),
        UpdateCode.NOT_STARTED: _("Le nouveau système n'a pas démarré."),
        UpdateCode.ACTIVATION_LOST: _("Le redémarrage n'a pas pris la nouvelle version : le boîtier recommence."),
    }


def _checks() -> dict[Check, str]:
    return {
        Check.FORWARD: _("le passage du réseau dans les deux sens"),
        Check.DATAPATH: _("le filtrage dans le noyau"),
        Check.BASE: _("la base toxique"),
        Check.LINK: _("la liaison avec le département"),
        Check.DISK: _("l'écriture sur la mémoire du boîtier"),
        Check.MEMORY: _("la mémoire vive"),
        Check.SELFTEST: _("l'autotest du filtrage"),
        Check.TIME: _("l'heure signée par le département"),
    }


def sentences(state: FirmwareState) -> tuple[str, ...]:
    """One to three sentences."""
    out = [_phases()[state.phase].format(version=state.version or "")]
    if state.code is not None:
        out.append(_codes()[state.code])
    if state.check is not None:
        out.append(_("Contrôle en cause : {check}.").format(check=_checks()[state.check]))
    return tuple(out)
