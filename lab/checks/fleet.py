"""A box that knows nobody becomes a member of the fleet; the department reaches it, and learns only what it may."""

from __future__ import annotations

import time

from lab import plan
from lab.capture import faults
from lab.central import scenario_words
from lab.office import Office
from vigie.contract.topics import Up, parse


def plugged_in(office: Office) -> str:
    """From the cable to a certificate and a session, without a human step."""
    member, product = office.fleet, office.box
    member.wait_enrolled(60)
    member.wait_linked(30)
    (row,), _ = office.department.wait_rows(
        "SELECT state, online FROM console_box JOIN console_boxstatus ON box_id = console_box.id "
        "WHERE console_box.id = ? AND state = 'active' AND online = 1", member.box,
    )  # fmt: skip
    enrolled = member.enrol_status()
    office.times["enrol_s"] = member.since(member.state / "enrol" / "current") - product.plugged_at
    return f"{member.box}: {enrolled['state']}; department: {row['state']}, online {row['online']}"


def central_indicator(office: Office) -> str:
    """The department's base replaces the one that the box was delivered with; what only it lists is refused."""
    version = office.department.versions[0]
    office.fleet.wait(lambda: office.box.base_version() == version, f"base {version} in force", 60)
    office.times["plugged_to_enforced_s"] = time.time() - office.box.plugged_at
    evidence = office["pc"].must_refuse_fast(plan.CENTRAL.v4, plan.HTTPS).evidence
    office["pc"].must_refuse_fast(office.indicators.toxic4, plan.HTTPS)
    return evidence


def alert_arrives(office: Office) -> str:
    """What was refused is a row in the department's database, with the listed indicator and nothing about the rest."""
    address = plan.CENTRAL.v6
    start = time.monotonic()
    office["pc"].must_refuse_fast(address, plan.HTTPS)
    query = "SELECT * FROM console_alert WHERE box_id = ? AND indicator IN (?, ?)"
    (row, *_), _ = office.department.wait_rows(query, office.fleet.box, address, f"{address}/128", seconds=90)
    office.times["alert_s"] = time.monotonic() - start
    return str({name: row[name] for name in ("rule", "indicator", "device", "count", "first", "received")})


def released(office: Office) -> str:
    """A new indicator, released to all: on the box within seconds, and connections to it under way are cut."""
    central = office.department
    version = central.prepare(plan.CENTRAL.v4, plan.CENTRAL.v6, plan.RELEASED.v4, plan.RELEASED.v6)
    office["pc"].must_reach(plan.RELEASED.v4, plan.HTTPS)
    refused: list[float] = []

    def watch() -> bool:
        probe = office["pc"].probe(plan.RELEASED.v4, plan.HTTPS, timeout=0.5)
        if probe.outcome == "refused":
            refused.append(time.time())
        return bool(refused)

    with office.background(watch):
        moment = central.release(version)
        office.fleet.wait(lambda: bool(refused), f"{plan.RELEASED.v4} refused after the release", 30)
    office.times["enforce_s"] = refused[0] - moment
    office["pc"].must_refuse_fast(plan.RELEASED.v6, plan.HTTPS)
    office.fleet.wait(lambda: office.box.base_version() == version, f"base {version} in force", 10)
    return f"base {version}: refused {refused[0] - moment:.2f} s after it was in the repository"


def order(office: Office) -> str:
    """An exception of the department: signed, sent, in force; taken back the same way."""
    central, box = office.department, office.fleet.box
    target = plan.CENTRAL.v4
    office["pc"].must_refuse_fast(target, plan.HTTPS)
    reached: list[float] = []

    def watch() -> bool:
        if office["pc"].probe(target, plan.HTTPS, timeout=0.5).outcome == "reached":
            reached.append(time.time())
        return bool(reached)

    with office.background(watch):
        added = central.cli("exception", "add", target, "--box", box, "--for", "4h", "--why", "essai du labo").require()
        office.fleet.wait(lambda: bool(reached), f"{target} allowed by the department", 30)
    office.times["order_s"] = reached[0] - central.ordered(box)
    central.cli("exception", "remove", _number(added.out)).require()
    office.fleet.wait(
        lambda: office["pc"].probe(target, plan.HTTPS).outcome == "refused", f"{target} refused again", 30
    )
    (row,), _ = central.wait_rows(
        "SELECT desired_version FROM console_boxstatus WHERE box_id = ? AND desired_status = 'in_force'",
        box,
    )
    return f"in force {office.times['order_s']:.2f} s after signing; the box reports version {row['desired_version']}"


def isolated(office: Office) -> str:
    """Level 2 from the department: the web is cut, the telephone is not; and it is lifted."""
    central, box = office.department, office.fleet.box
    central.cli("isolate", box, "--level", "2", "--for", "1h", "--why", "essai du labo").require()
    try:
        office.fleet.wait(
            lambda: office["pc"].probe(plan.TOWN.v4, plan.HTTPS).outcome == "refused", "isolated by the department", 30
        )
        essential = office["phone"].probe(plan.SIP.v4, plan.SIP_PORT, "udp", 0.5)
        if essential.outcome == "refused":
            raise AssertionError(f"telephony must survive isolation:\n{essential.evidence}")
    finally:
        central.cli("isolate", box, "--level", "0", "--why", "fin de l'essai").require()
    office["pc"].must_reach(plan.TOWN.v4, plan.HTTPS, within=30)
    return essential.evidence


def department_down(office: Office) -> str:
    """Broker and web server gone: filtering goes on, and what happened meanwhile arrives when they are back."""
    central, member = office.department, office.fleet
    department = central.department
    before = len(central.alerts(member.box))
    department.stop("broker", kill=True)
    department.stop("web")
    try:
        member.wait(lambda: member.link_status().get("code") != "connected", "noticed by the link", 30)
        office["pc"].must_refuse_fast(office.indicators.toxic4, plan.ECHO)
        office["camera"].must_refuse_fast(plan.RELEASED.v4, plan.SINK)
        office["pc"].must_reach(plan.TOWN.v4, plan.HTTPS)
    finally:
        department.start("broker", "web")
    start = time.monotonic()
    member.wait_linked(30)
    query = "SELECT * FROM console_alert WHERE box_id = ? AND indicator IN (?, ?)"
    central.wait_rows(query, member.box, plan.RELEASED.v4, f"{plan.RELEASED.v4}/32", seconds=60)
    office.times["caught_up_s"] = time.monotonic() - start
    return f"{before} alerts before, {len(central.alerts(member.box))} after"


def privacy(office: Office) -> str:
    """Every message of the whole scenario, as the broker got it: of the contract, and nothing unlisted in it."""
    time.sleep(1.0)  # the last row may be under way
    messages = office.department.capture.messages
    kinds = {place.kind.value for place in map(parse, {m.topic for m in messages}) if isinstance(place, Up)}
    if not {"state", "alert"} <= kinds:
        raise AssertionError(f"a capture without alerts proves nothing: {len(messages)} messages, kinds {kinds}")
    wrong = faults(messages, scenario_words(office.indicators))
    if wrong:
        raise AssertionError("\n".join(wrong[:10]))
    return f"{len(messages)} messages ({', '.join(sorted(kinds))}), {sum(len(m.payload) for m in messages)} bytes"


def revoked(office: Office) -> str:
    """The session is cut at once, the box cannot come back; it goes on filtering; released, it enrols again alone."""
    central, member = office.department, office.fleet
    start = time.monotonic()
    told = time.time()
    central.cli("box", "revoke", member.box, "--why", "essai du labo").require()
    member.wait(lambda: member.link_status().get("code") != "connected", "cut by the revocation", 30)
    office.times["revoked_s"] = time.monotonic() - start
    time.sleep(2.0)
    later = [m for m in central.capture.messages if m.when > told + office.times["revoked_s"] + 0.5]
    if any(member.box in message.topic for message in later):
        raise AssertionError(f"a revoked box still speaks: {later[-1]}")
    office["pc"].must_refuse_fast(office.indicators.toxic4, plan.HTTPS)
    office["pc"].must_reach(plan.TOWN.v4, plan.HTTPS)
    central.department.authority("unblock", member.box, "--operator", "labo", "--note", "fin de l'essai").require()
    start = time.monotonic()
    member.wait_linked(60)
    office.times["back_s"] = time.monotonic() - start
    return f"cut {office.times['revoked_s']:.2f} s after the command, back {office.times['back_s']:.1f} s after release"


def _number(out: str) -> str:
    """Number of the exception that a command speaks of."""
    words = [word.strip("#.,:") for word in out.split()]
    found = [word for word in words if word.isdigit()]
    if not found:
        raise AssertionError(f"no number of an exception in: {out}")
    return found[0]
