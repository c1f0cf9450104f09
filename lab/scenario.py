"""The expectations, in the order in which they run, and the runner."""

from __future__ import annotations

import time
import traceback
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from lab.checks import browsing, explain, fleet, inbound, neighbours, resilience, toxic, zones
from lab.errors import LabError
from lab.office import Office


@dataclass(frozen=True, slots=True)
class Expectation:
    """`sentence` is what people read (French). `plain`: holds over a plain bridge too, which proves the lab itself."""

    name: str
    sentence: str
    run: Callable[[Office], str]
    plain: bool = False


@dataclass(frozen=True, slots=True)
class Outcome:
    expectation: Expectation
    held: bool
    evidence: str
    seconds: float


EXPECTATIONS: tuple[Expectation, ...] = (
    Expectation("line-open-filtered", "La ligne n'a jamais été ouverte sans filtrage", resilience.never_unfiltered),
    Expectation("published-port", "Un port publié et utilisé répond", neighbours.published_port, plain=True),
    Expectation("plugged-in", "Branché, le boîtier rejoint seul son département", fleet.plugged_in),
    Expectation("central-indicator", "La base du département arrive et protège", fleet.central_indicator),
    Expectation("alert-arrives", "L'alerte arrive au département", fleet.alert_arrives),
    Expectation("websites", "Les sites web s'ouvrent, en IPv4 et en IPv6", browsing.websites, plain=True),
    Expectation("names", "Les noms se résolvent, par UDP et par TCP", browsing.names, plain=True),
    Expectation("protected-name", "Les impôts restent joignables", browsing.protected_name, plain=True),
    Expectation("large-hello", "Les connexions post-quantiques passent", browsing.large_client_hello, plain=True),
    Expectation("http3", "HTTP/3 (QUIC) passe", browsing.http3, plain=True),
    Expectation("throughput", "Les gros transferts ne sont pas ralentis", browsing.throughput, plain=True),
    Expectation("printing", "L'imprimante est trouvée et imprime, depuis le Wi-Fi de la box opérateur et vers lui",
                neighbours.printing, plain=True),
    Expectation("neighbours", "Le Wi-Fi et le bureau se joignent dans les deux sens",
                neighbours.both_ways, plain=True),
    Expectation("telephone", "Le téléphone appelle, est appelé, et la voix passe", neighbours.calling, plain=True),
    Expectation("television", "La télévision de l'opérateur passe, avec et sans étiquette VLAN",
                neighbours.watching, plain=True),
    Expectation("lease", "La box opérateur attribue une adresse à un visiteur", neighbours.lease, plain=True),
    Expectation("bad-name", "Un nom toxique est refusé sur-le-champ (NXDOMAIN expliqué)", toxic.by_name),
    Expectation("bad-name-tcp", "Un nom toxique demandé par TCP est coupé", toxic.by_name_over_tcp),
    Expectation("bad-sni", "Sans DNS, le nom toxique est reconnu dans la connexion et refusé", toxic.by_server_name),
    Expectation("bad-quic", "Le même, par QUIC : aucun octet n'arrive", toxic.by_quic),
    Expectation("bad-address", "Une adresse toxique est refusée sur-le-champ", toxic.by_address),
    Expectation("self-test", "L'autotest prouve que le filtrage bloque", explain.self_test),
    Expectation("why", "« vigie why » explique, source à l'appui", explain.why),
    Expectation("journal", "Ce qui est bloqué est au journal", explain.journal),
    Expectation("exceptions", "La commune peut autoriser ou bloquer elle-même", explain.exception),
    Expectation("quarantine", "Un appareil mis en quarantaine est coupé, lui seul", explain.quarantine),
    Expectation("isolation", "L'isolement garde l'essentiel", explain.isolation),
    Expectation("answers", "Les réponses à ce que le bureau demande reviennent", inbound.answers_pass, plain=True),
    Expectation("inbound-scan", "Un balayage IPv6 venu d'internet ne trouve rien", inbound.scan_refused),
    Expectation("forwarded-in-use", "Le port publié en usage reste ouvert, l'autre non", inbound.forwarded_in_use),
    Expectation("page-port", "La page du boîtier ne répond qu'au bureau", inbound.page_port),
    Expectation("spoof", "Personne ne se fait passer pour le boîtier", inbound.spoofed_box),
    Expectation("upload-cut", "L'envoi de la caméra vers une adresse devenue toxique est coupé", toxic.upload_cut),
    Expectation("bad-base", "Une base abîmée est refusée, l'ancienne reste", resilience.bad_base_refused),
    Expectation("daemon-killed", "Le programme tué, le trafic et le filtrage continuent", resilience.killed),
    Expectation("daemon-restart", "Le programme revient sans coupure", resilience.restarted),
    Expectation("rogue-router", "Un faux routeur ne retourne pas le boîtier", zones.rogue_router),
    Expectation("cables-swapped", "Les câbles intervertis, tout continue", zones.cables_swapped),
    Expectation("loop", "Une boucle de câbles est coupée en moins d'une seconde, puis rouverte", zones.loop),
    Expectation("released-enforced", "Un indicateur publié est appliqué aussitôt", fleet.released),
    Expectation("order-in-force", "Une exception du département arrive, puis repart", fleet.order),
    Expectation("central-isolation", "Le département isole la mairie, l'essentiel reste, puis lève l'isolement",
                fleet.isolated),
    Expectation("department-down", "Le département injoignable, le filtrage continue et rien ne se perd",
                fleet.department_down),
    Expectation("revoked", "Révoqué, le boîtier est coupé du département aussitôt, et filtre toujours", fleet.revoked),
    Expectation("privacy", "Rien de ce qui est parti ne dit ce que fait la mairie", fleet.privacy),
)  # fmt: skip


def selected(only: Iterable[str], plain: bool) -> list[Expectation]:
    """Those asked for (all when none is named) that make sense for what is in the box."""
    wanted = set(only)
    unknown = wanted - {expectation.name for expectation in EXPECTATIONS}
    if unknown:
        known = ", ".join(expectation.name for expectation in EXPECTATIONS)
        raise LabError(f"no expectation named {', '.join(sorted(unknown))}; there are: {known}")
    return [e for e in EXPECTATIONS if (not wanted or e.name in wanted) and (e.plain or not plain)]


def run(office: Office, expectations: Iterable[Expectation], tell: Callable[[Outcome], None]) -> list[Outcome]:
    """Each one, whatever became of those before it."""
    outcomes = []
    for expectation in expectations:
        start = time.monotonic()
        try:
            evidence, held = expectation.run(office), True
        except AssertionError as failure:
            evidence, held = str(failure), False
        except Exception:  # noqa: BLE001  # a fault of one check must not hide the others; it counts as not held
            evidence, held = traceback.format_exc(), False
        outcome = Outcome(expectation, held, evidence, time.monotonic() - start)
        outcomes.append(outcome)
        tell(outcome)
    return outcomes
