"""A bad click is refused at once, however it is made; nothing of it arrives."""

from __future__ import annotations

import socket
import time
from pathlib import Path

import dns.edns
import dns.flags
import dns.message
import dns.rcode

from lab import plan, wire
from lab.clients import quic, tls
from lab.clients.steady import Upload
from lab.netns import Namespace
from lab.office import Office, within
from lab.servers.report import heard

REFUSAL_MS = 1000.0


def _ask(namespace: Namespace, server: str, name: str, edns: bool) -> tuple[dns.message.Message, float]:
    query = dns.message.make_query(name, "A", use_edns=0 if edns else -1)
    with namespace.socket(socket.AF_INET6 if ":" in server else socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.settimeout(2)
        sock.connect((server, plan.DNS))
        start = time.monotonic()
        sock.send(query.to_wire())
        data = sock.recv(4096)
        took = (time.monotonic() - start) * 1000
    answer = dns.message.from_wire(data)
    if not query.is_response(answer):
        raise AssertionError(f"[{namespace.label}] {server} answered something else to {name}:\n{answer}")
    return answer, took


def by_name(office: Office) -> str:
    """NXDOMAIN with an extended error, made on the spot; the internet's DNS never hears the name."""
    pc, name = office["pc"], office.indicators.toxic_names[0]
    odd = "".join(letter.upper() if place % 2 else letter for place, letter in enumerate(name))
    slowest = 0.0
    with office.unheard(office.lab.servers.names.log, "the internet's DNS server"):
        for server in (plan.GATEWAY4, plan.GATEWAY6, plan.RESOLVER.v4, plan.RESOLVER.v6):
            for asked, edns in ((name, True), (name, False), (f"cdn.{odd}", True)):
                answer, took = _ask(pc, server, asked, edns)
                slowest = max(slowest, took)
                if answer.rcode() != dns.rcode.NXDOMAIN:
                    raise AssertionError(f"{asked} at {server}: {dns.rcode.to_text(answer.rcode())}, not NXDOMAIN")
                codes = [option.code for option in answer.options if isinstance(option, dns.edns.EDEOption)]
                if edns and codes != [dns.edns.EDECode.BLOCKED]:
                    raise AssertionError(f"{asked} at {server}: extended errors {codes}, expected 15 (Blocked)")
                if answer.question[0].name.to_text() != f"{asked}.":
                    raise AssertionError(f"letter case lost: asked {asked}, answer says {answer.question[0].name}")
        result = tls.curl(pc, f"https://{name}/", office.ca)
    if result.code != 6:  # could not resolve host
        raise AssertionError(f"curl must be told that the name does not exist:\n{result.evidence}")
    office.times["refusal_name"] = slowest
    return f"{within(slowest, REFUSAL_MS, 'slowest NXDOMAIN')}; curl: {result.err.strip()}"


def by_name_over_tcp(office: Office) -> str:
    name = office.indicators.toxic_names[0]
    result = None
    with office.unheard(office.lab.servers.names.log, "the internet's DNS server"):
        for server in (plan.GATEWAY4, plan.RESOLVER.v4, plan.RESOLVER.v6):
            result = tls.dig(office["pc"], name, server, "+tcp")
            if result.code == 0 and "ANSWER: 1" in result.out:
                raise AssertionError(f"a toxic name was answered over TCP:\n{result.evidence}")
            if result.seconds > 1.5:
                raise AssertionError(f"must be cut at once, not time out:\n{result.evidence}")
    return result.evidence.splitlines()[-1] if result else ""


def by_server_name(office: Office) -> str:
    """DNS was bypassed: a clean address, a toxic name in the ClientHello."""
    name, slowest = office.indicators.toxic_names[0], 0.0
    hidden = (plan.HIDDEN.v4, plan.HIDDEN.v6)
    for address in hidden:
        tls.handshake(office["pc"], address, 443, plan.HIDDEN.name, ca=office.ca).require("reached")
        for big in (False, True):
            attempt = tls.handshake(office["pc"], address, 443, name, big=big).require("refused", REFUSAL_MS)
            slowest = max(slowest, attempt.ms)
        result = tls.s_client(office["pc"], address, name)
        if result.code == 0 or "CONNECTION ESTABLISHED" in result.out + result.err:
            raise AssertionError(f"openssl must not get through:\n{result.evidence}")
    _no_first_byte(office.lab.servers.web.log, hidden, name)
    office.times["refusal_sni"] = slowest
    return f"{within(slowest, REFUSAL_MS, 'slowest refusal by server name')}; 0 bytes at the server"


def _no_first_byte(log: Path, addresses: tuple[str, ...], name: str) -> None:
    time.sleep(0.2)
    seen = [
        entry for entry in heard(log, "web") if entry["to"] in addresses and entry["first"] and name in entry["sni"]
    ]
    blind = [e for e in heard(log, "web") if e["to"] in addresses and e["first"] and not e["sni"]]
    if seen or blind:
        raise AssertionError(f"bytes of a toxic connection arrived: {(seen + blind)[:3]}")


def by_quic(office: Office) -> str:
    """The ClientHello is encrypted and may span two datagrams: none of them arrives, and the client is told."""
    name, told = office.indicators.toxic_names[0], []
    log = office.lab.servers.quic.log
    with wire.Tap(office["pc"], "eth0") as tap:
        for address in (plan.HIDDEN.v4, plan.HIDDEN.v6):
            for big in (False, True):
                before = len(heard(log, "datagram", to=address))
                attempt = quic.fetch(office["pc"], address, name, big=big, timeout=1.5)
                if attempt.outcome == "reached":
                    raise AssertionError(f"a toxic name was reached by QUIC:\n{attempt.evidence}")
                arrived = heard(log, "datagram", to=address)[before:]
                if arrived:
                    raise AssertionError(f"{len(arrived)} datagrams of a toxic QUIC connection arrived: {arrived[:3]}")
                errors = [frame for frame in tap.collect(_icmp_prohibited, 0.3)]
                if not errors:
                    raise AssertionError(f"the client was not told (no ICMP prohibited):\n{attempt.evidence}")
                told.append(f"{address}{' big' if big else ''}: {len(errors)} ICMP")
    return "; ".join(told)


def _icmp_prohibited(data: bytes) -> bool:
    if data[12:14] == b"\x08\x00" and data[23] == 1:
        return data[34:36] == b"\x03\x0d"
    return data[12:14] == b"\x86\xdd" and data[20] == 58 and data[54:56] == b"\x01\x01"


def by_address(office: Office) -> str:
    probes = []
    for address in (office.indicators.toxic4, office.indicators.toxic6):
        with office.unheard(office.lab.servers.plain.log, "the toxic server"):
            probes.append(office["pc"].must_refuse_fast(address, plan.SINK))
        probes.append(office["pc"].must_refuse_fast(address, plan.HTTPS))
        probes.append(office["pc"].must_refuse_fast(address, plan.ECHO, "udp"))
        office["camera"].must_not_reach(address, attempts=1)
    office.times["refusal"] = max(probe.ms for probe in probes)
    return "\n".join(probe.evidence for probe in probes)


def upload_cut(office: Office) -> str:
    """The address enters the base while the camera is sending to it: the connection under way is cut."""
    if office.bases is None:
        raise AssertionError("no bases")
    lines = []
    with office.without_updates():
        for address in (plan.VENDOR.v4, plan.VENDOR.v6):
            with Upload(office["camera"], address, plan.SINK) as upload:
                time.sleep(0.5)
                if upload.error or not upload.sent:
                    raise AssertionError(f"the upload must run before the swap: {upload.evidence}")
                start = time.monotonic()
                applied = office.box.cli("base", "apply", str(office.bases.with_vendor)).require()
                ended = upload.wait_cut(5.0)
                # From the order (a command typed) to the last byte of the camera.
                office.times["swap"] = max(office.times.get("swap", 0.0), (ended - start) * 1000)
                office.times["base_apply"] = max(office.times.get("base_apply", 0.0), applied.seconds * 1000)
                lines.append(f"{upload.evidence}, {(ended - start) * 1000:.0f} ms after the order")
            office["camera"].must_refuse_fast(address, plan.SINK)
            office.box.cli("base", "apply", str(office.bases.plain)).require()
            office["camera"].must_reach(address, plan.SINK)
    return "\n".join(lines)
