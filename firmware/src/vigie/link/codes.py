"""Where the link stands: one code and one sentence for the mairie. Append-only: the page shows them."""

from __future__ import annotations

from enum import StrEnum

from vigie.i18n import _


class LinkCode(StrEnum):
    """CONNECTED, or what is in the way."""

    CONNECTED = "connected"
    CONNECTING = "connecting"
    NOT_ENROLLED = "not-enrolled"
    NO_NAME = "no-name"
    NO_ROUTE = "no-route"
    REFUSED = "refused"
    TIMEOUT = "timeout"
    PROXY = "proxy"
    SERVER_CERTIFICATE = "server-certificate"
    BOX_CERTIFICATE = "box-certificate"
    DENIED = "denied"
    LOST = "lost"
    PROTOCOL = "protocol"
    TAKEN_OVER = "taken-over"
    STOPPED = "stopped"


def sentence(code: LinkCode) -> str:
    """For the mairie, in the reader's language."""
    return {
        LinkCode.CONNECTED: _("Le boîtier est relié au département."),
        LinkCode.CONNECTING: _("Le boîtier se relie au département."),
        LinkCode.NOT_ENROLLED: _("Le boîtier n'est pas encore inscrit auprès du département."),
        LinkCode.NO_NAME: _("Le nom du serveur du département ne se résout pas : problème de DNS."),
        LinkCode.NO_ROUTE: _("Le serveur du département est injoignable : l'accès à internet est peut-être coupé."),
        LinkCode.REFUSED: _("Le serveur du département refuse la connexion ; il redémarre peut-être."),
        LinkCode.TIMEOUT: _("Le serveur du département ne répond pas, ou un pare-feu l'en empêche."),
        LinkCode.PROXY: _("Le serveur mandataire (proxy) de la mairie refuse la connexion."),
        LinkCode.SERVER_CERTIFICATE: _(
            "Le serveur qui répond n'est pas celui du département : rien ne lui est envoyé."
        ),
        LinkCode.BOX_CERTIFICATE: _("Le département n'accepte pas le certificat du boîtier ; il va se réinscrire."),
        LinkCode.DENIED: _("Le serveur du département refuse ce boîtier."),
        LinkCode.LOST: _("La liaison avec le département est interrompue ; le boîtier réessaie."),
        LinkCode.PROTOCOL: _("Le serveur du département a répondu quelque chose d'incompréhensible."),
        LinkCode.TAKEN_OVER: _("Un autre appareil utilise l'identité de ce boîtier."),
        LinkCode.STOPPED: _("La liaison avec le département est arrêtée."),
    }[code]
