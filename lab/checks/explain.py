"""The box says what it does, in French, and does what it is told."""

from __future__ import annotations

import json

from lab import plan
from lab.clients import tls
from lab.office import Office


def self_test(office: Office) -> str:
    """A test indicator is really injected into the port and really refused."""
    return office.box.cli("self-test").require().evidence


def why(office: Office) -> str:
    lines = []
    for target in (office.indicators.toxic4, office.indicators.toxic6, office.indicators.toxic_names[0]):
        result = office.box.cli("why", target).require()
        said = json.loads(office.box.cli("why", target, "--json").require().out)
        if not said.get("sources") and "source" not in json.dumps(said):
            raise AssertionError(f"`vigie why {target}` names no source: {said}")
        lines.append(result.out.strip())
    clean = office.box.cli("why", plan.TAX.name).require()
    return "\n".join([*lines, clean.out.strip()])


def exception(office: Office) -> str:
    """The commune allows something for one machine: it passes there, stays refused elsewhere, and ends when removed."""
    target, mac = office.indicators.toxic4, plan.MACS["pc"]
    office.box.cli("allow", target, "--device", mac, "--for", "1h").require()
    reached = office["pc"].must_reach(target, plan.HTTPS)
    refused = office["camera"].must_refuse_fast(target, plan.HTTPS)
    office.box.cli("allow", target, "--device", mac, "--remove").require()
    office["pc"].must_refuse_fast(target, plan.HTTPS)
    office.box.cli("block", plan.CLOUD.name, "--for", "1h").require()
    blocked = tls.dig(office["pc"], plan.CLOUD.name, plan.GATEWAY4)
    if "NXDOMAIN" not in blocked.out:
        raise AssertionError(f"a name blocked by the commune must not be answered:\n{blocked.evidence}")
    office.box.cli("block", plan.CLOUD.name, "--remove").require()
    tls.dig(office["pc"], plan.CLOUD.name, plan.GATEWAY4, "+short").require()
    return f"{reached.evidence}\n{refused.evidence}"


def quarantine(office: Office) -> str:
    mac = plan.MACS["camera"]
    office.box.cli("quarantine", mac).require()
    refused = office["camera"].must_refuse_fast(plan.CLOUD.v4, plan.HTTPS)
    office["pc"].must_reach(plan.CLOUD.v4, plan.HTTPS)
    office.box.cli("quarantine", mac, "--remove").require()
    office["camera"].must_reach(plan.CLOUD.v4, plan.HTTPS)
    return refused.evidence


def isolation(office: Office) -> str:
    """Level 2 keeps what is essential (the telephone), level 0 gives everything back."""
    office.box.cli("isolate", "2").require()
    try:
        refused = office["pc"].must_refuse_fast(plan.TOWN.v4, plan.HTTPS)
        office["pc"].must_reach(plan.host4("printer"), 9100)
        office["pc"].must_reach(plan.host4("wifi"), 9100)
        essential = office["phone"].probe(plan.SIP.v4, plan.SIP_PORT, "udp", 0.5)
        if essential.outcome == "refused":
            raise AssertionError(f"telephony must survive isolation:\n{essential.evidence}")
    finally:
        office.box.cli("isolate", "0").require()
    office["pc"].must_reach(plan.TOWN.v4, plan.HTTPS)
    return refused.evidence


def journal(office: Office) -> str:
    """What was blocked is in the journal, aggregated, with its reason."""
    top = office.box.json("top", "destinations")
    if office.indicators.toxic4 not in json.dumps(top):
        raise AssertionError(f"{office.indicators.toxic4} was blocked but `vigie top` does not show it: {top}")
    return office.box.cli("top", "reasons").require().out.strip()
