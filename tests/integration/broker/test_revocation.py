"""Revocation on a live broker: what mosquitto does by itself, and what the watch adds."""

from __future__ import annotations

import signal
import time
from datetime import timedelta

from tests.support.servers import Servers, eventually
from vigie.contract.topics import announcement, down, up
from vigie.contract.words import Kind, Look, Order

NOT_AUTHORISED = 135


def test_revoked_box_loses_its_session_and_cannot_come_back(watched: Servers) -> None:
    lost, kept = watched.certificates.box(), watched.certificates.box()
    department = watched.certificates.department()
    with (
        watched.session(department, "vigie/v1/+/up/+") as ingest,
        watched.session(lost, down(lost.name, Order.COMMAND)) as revoked,
        watched.session(kept, down(kept.name, Order.COMMAND)) as other,
    ):
        assert revoked.say(up(lost.name, Kind.ALERT), b"before") in (0, 16)
        start = time.monotonic()
        watched.certificates.publish((lost,))
        revoked.wait(lambda: bool(revoked.ends), "cut")
        print(f"cut {(revoked.ends[0] - start) * 1000:.0f} ms after the authority had published")
        watched.wait_told(f"{lost.name}: no session left")
        attempts = len(revoked.ends)
        revoked.wait(lambda: len(revoked.ends) >= attempts + 2, "tried to come back")
        assert len(revoked.connections) == 1
        assert ingest.say(down(kept.name, Order.COMMAND), b"order") in (0, 16)
        other.wait(lambda: bool(other.heard), "told")
        assert other.say(up(kept.name, Kind.ALERT), b"after") in (0, 16)
        assert (len(other.connections), len(ingest.connections)) == (1, 1)
    assert [payload for _, payload in ingest.heard] == [b"before", b"after"]


def test_denied_box_with_a_valid_certificate_is_deaf_and_mute(watched: Servers) -> None:
    """A clone may hold a certificate that no list names yet: it may connect, and gets nothing from it."""
    box, department = watched.certificates.box(), watched.certificates.department()
    watched.certificates.publish((), (box,))
    watched.wait_told(f"{box.name}: denied")
    topics = (down(box.name, Order.DESIRED), announcement(Look.BASE))
    with (
        watched.session(department, "vigie/v1/+/up/+") as ingest,
        watched.session(box, *topics) as clone,
    ):
        assert clone.say(up(box.name, Kind.ALERT), b"lie") == NOT_AUTHORISED
        ingest.say(down(box.name, Order.DESIRED), b"order", retain=True)
        ingest.say(announcement(Look.BASE), b"look")
        watched.certificates.publish()
        watched.wait_told(f"{box.name}: allowed again")
        eventually(lambda: clone.say(up(box.name, Kind.ALERT), b"truth") != NOT_AUTHORISED, "not allowed again")
        ingest.wait(lambda: bool(ingest.heard), "heard the box")
    assert clone.heard == []
    assert ingest.heard[0] == (up(box.name, Kind.ALERT), b"truth")


def test_a_box_makes_no_topics_of_its_own(watched: Servers) -> None:
    """Retained, each would stay in the broker's memory for ever, and there is no limit to their number."""
    box = watched.certificates.box()
    with watched.session(box) as session:
        for kind in Kind:
            assert session.say(up(box.name, kind), b"{}") in (0, 16)
        for more in ("", "other", "alert/1", "state/x/y"):
            assert session.say(f"vigie/v1/{box.name}/up/{more}", b"x" * 60_000, retain=True) == NOT_AUTHORISED


def test_list_past_its_date_keeps_new_sessions_out_until_it_is_renewed(watched: Servers) -> None:
    box, late = watched.certificates.box(), watched.certificates.box()
    over = time.time() + 6
    watched.certificates.publish(life=timedelta(seconds=6))
    watched.wait_told("0 certificates")
    with watched.session(box) as live:
        time.sleep(max(0.0, over + 0.2 - time.time()))
        assert live.say(up(box.name, Kind.ALERT), b"still here") in (0, 16)
        with watched.session(late, expect=False) as refused:
            refused.wait(lambda: bool(refused.errors or refused.ends), "refused")
            assert refused.connections == []
            watched.certificates.publish()
        with watched.session(late) as again:
            assert again.connections


def test_broken_files_change_nothing_even_when_somebody_reloads_the_broker(watched: Servers) -> None:
    revoked, box = watched.certificates.box(), watched.certificates.box()
    watched.certificates.publish((revoked,))
    watched.wait_told(f"{revoked.name}: no session left")
    pki = watched.config.paths.pki
    for name, broken in (("crl.pem", b"garbage"), ("denied.json", b"{"), ("crl.pem", b""), ("denied.json", b"")):
        (pki / name).write_bytes(broken)
        eventually(lambda: "unusable" in watched.plan.status.read_text(), "not reported")
        watched.broker.popen.send_signal(signal.SIGHUP)
        with watched.session(revoked, expect=False) as outside, watched.session(box) as inside:
            outside.wait(lambda: bool(outside.errors or outside.ends), "refused")
            assert outside.connections == []
            assert inside.say(up(revoked.name, Kind.ALERT), b"forged") == NOT_AUTHORISED
    pki.joinpath("crl.pem").unlink()
    watched.broker.popen.send_signal(signal.SIGHUP)
    with watched.session(revoked, expect=False) as outside:
        outside.wait(lambda: bool(outside.errors or outside.ends), "refused")
        assert outside.connections == []


def test_older_list_is_not_accepted(watched: Servers) -> None:
    """A restored backup of the authority, or whoever may write there, cannot let a revoked box back in by a file."""
    box = watched.certificates.box()
    old = (watched.config.paths.pki / "crl.pem").read_bytes()
    watched.certificates.publish((box,))
    watched.wait_told(f"{box.name}: no session left")
    (watched.config.paths.pki / "crl.pem").write_bytes(old)
    eventually(lambda: "crl-older" in watched.plan.status.read_text(), "not reported")
    with watched.session(box, expect=False) as outside:
        outside.wait(lambda: bool(outside.errors or outside.ends), "refused")
        assert outside.connections == []


def test_revoked_while_the_broker_is_down(servers: Servers) -> None:
    """Queue and subscriptions of a revoked box do not outlive it in the broker's persistence."""
    box = servers.certificates.box()
    broker = servers.start_broker()
    with servers.session(box, down(box.name, Order.COMMAND)):
        pass
    assert broker.stop() == 0
    with servers.watching():
        servers.certificates.publish((box,))
        servers.wait_told(f"{box.name}: denied")
        servers.start_broker()
        with servers.session(box, expect=False) as outside:
            outside.wait(lambda: bool(outside.errors or outside.ends), "refused")
            assert outside.connections == []
