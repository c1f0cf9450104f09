"""Never blind, never in the way: the daemon dies, comes back, swaps bases; traffic and filtering go on."""

from __future__ import annotations

import time

from lab import plan
from lab.clients import tls
from lab.clients.steady import Conversation, Datagrams
from lab.office import Office, within


def killed(office: Office) -> str:
    """kill -9: established and new connections pass, and what is toxic is still refused."""
    pc, name = office["pc"], office.indicators.toxic_names[0]
    office.box.wait_learning_over()
    with Conversation(pc, plan.CLOUD.v4, plan.ECHO) as talk, Datagrams(pc, plan.CLOUD.v6, plan.ECHO) as datagrams:
        time.sleep(0.3)
        office.box.kill()
        time.sleep(1.5)
        evidence = talk.must_live(500)
        tls.curl(pc, "https://www.commune.example/", office.ca).require()
        big = tls.handshake(pc, plan.TOWN.v4, 443, plan.TOWN.name, ca=office.ca, big=True).require("reached", 2000)
        refused = [pc.must_refuse_fast(office.indicators.toxic4, plan.HTTPS).evidence]
        refused.append(office["internet"].must_not_reach(plan.host6("printer"), 9100, attempts=1).evidence)
        refused.append(tls.handshake(pc, plan.HIDDEN.v4, 443, name).require("refused").evidence)
        result = tls.dig(pc, name, plan.GATEWAY4)
        if "NXDOMAIN" not in result.out:
            raise AssertionError(f"a toxic name must not be answered without the daemon:\n{result.evidence}")
        lost = datagrams.sent - datagrams.answers
    if lost > 2:
        raise AssertionError(f"datagrams lost over kill -9: {datagrams.evidence}")
    office.times["big_hello_without_daemon"] = big.ms
    return "\n".join([evidence, datagrams.evidence, *refused])


def restarted(office: Office) -> str:
    """The daemon comes back (after kill -9, then after an orderly stop) and takes over without a gap."""
    pc, lines = office["pc"], []
    if office.box.answers():  # alone, not after `killed`
        office.box.wait_learning_over()
    with Conversation(pc, plan.CLOUD.v6, plan.ECHO) as talk, Datagrams(pc, plan.CLOUD.v4, plan.ECHO) as datagrams:
        time.sleep(0.2)
        for stop in (office.box.kill, office.box.stop):
            if office.box.answers():
                stop()
                time.sleep(0.5)
            took = office.box.start() * 1000
            office.times["daemon_restart"] = max(office.times.get("daemon_restart", 0.0), took)
            lines.append(f"ready after {took:.0f} ms")
            holding = took + office.box.wait_holding() * 1000
            office.times["daemon_restart_names"] = max(office.times.get("daemon_restart_names", 0.0), holding)
            pc.must_refuse_fast(office.indicators.toxic4, plan.HTTPS)
            office["internet"].must_not_reach(plan.host6("printer"), 9100, attempts=1)
        lines.append(talk.must_live(300))
        office.times["restart_gap"] = talk.longest_gap_ms
        lost = datagrams.sent - datagrams.answers
    if lost > 2:
        raise AssertionError(f"datagrams lost over restarts: {datagrams.evidence}")
    return "\n".join([*lines, datagrams.evidence])


def bad_base_refused(office: Office) -> str:
    """A truncated or altered base is refused with a message, and the one in use stays."""
    if office.bases is None:
        raise AssertionError("no bases")
    data = office.bases.plain.read_bytes()
    lines = []
    for label, wrong in (
        ("truncated", data[: len(data) // 2]),
        ("altered", data[:-40] + bytes([data[-40] ^ 1]) + data[-39:]),
        ("not a base", b"<html>404</html>" * 10),
    ):
        path = office.lab.world.temp / "wrong.vgb"
        path.write_bytes(wrong)
        result = office.box.cli("base", "apply", str(path))
        if result.code == 0:
            raise AssertionError(f"a base that is {label} must be refused:\n{result.evidence}")
        lines.append(f"{label}: {(result.err or result.out).strip().splitlines()[-1][:150]}")
        office["pc"].must_refuse_fast(office.indicators.toxic4, plan.HTTPS)
    return "\n".join(lines)


def never_unfiltered(office: Office) -> str:
    """From the moment the ports came up, the early loader was already filtering."""
    return within(office.times["unfiltered_ms"], 0.0, "time unfiltered since the ports came up")
