"""The authority dies at any moment: nothing that was answered is forgotten, nothing is issued twice."""

from __future__ import annotations

import http.client
import random
import threading
import time
from datetime import UTC, datetime, timedelta

from cryptography import x509

from tests.integration.authority.conftest import Town
from tests.support.enrolbox import SimBox
from vigie_provisioning.authority import schema

ROUNDS = 6
BOXES = 6


def ask(town: Town, box: SimBox, replies: dict[str, bytes]) -> None:
    """Sends the request that is ready; the answer may never come."""
    try:
        reply = town.post("enrol", box.ask_enrol(), box)
        if reply.status == 200:
            replies[box.serial] = reply.body
    except (OSError, http.client.HTTPException):
        return


def test_killed_between_issue_and_reply(town: Town) -> None:
    """kill -9 while boxes enrol, again and again. Whatever was issued is issued once; what was answered stays true."""
    chance = random.Random(7)
    lost = 0
    for _ in range(ROUNDS):
        boxes = town.buy(BOXES)
        for box in boxes:
            box.take_challenge(town.post("challenge", box.ask_challenge(), box).body)
        replies: dict[str, bytes] = {}
        threads = [threading.Thread(target=ask, args=(town, box, replies)) for box in boxes]
        for thread in threads:
            thread.start()
        time.sleep(chance.uniform(0.0, 0.06))
        town.department.stop("authority", kill=True)
        for thread in threads:
            thread.join()
        reader = schema.open_reader(town.room.config.store)
        issued = {row["serial"] for row in reader.execute("SELECT serial FROM certificates WHERE state = 'pending'")}
        reader.close()
        town.department.start("authority")
        lost += len({box.serial for box in boxes} & issued - set(replies))
        for box in boxes:
            again = town.enrol(box)
            assert again.status == 200, again
            if box.serial in replies:
                assert again.body == replies[box.serial]
            box.take_reply(again.body)
            assert town.confirm(box).status == 200
            assert town.issued(box) == 1
    print(f"{lost} of {ROUNDS * BOXES} boxes had a certificate issued whose reply was lost")


def test_down_for_a_week(town: Town) -> None:
    """While it is down nobody enrols, and nginx says so; the list published before outlives the week by far."""
    old, new = town.buy(2)
    town.join(old)
    town.department.stop("authority")
    try:
        reply = town.post("challenge", new.ask_challenge(), new)
        assert reply.status in (502, 503, 504)
        crl = x509.load_pem_x509_crl((town.department.config.paths.pki / "crl.pem").read_bytes())
        assert crl.next_update_utc is not None
        assert crl.next_update_utc - datetime.now(UTC) > timedelta(days=29)
    finally:
        town.department.start("authority")
    town.join(new)
    reply = town.post("renew", old.ask_renew(), old, old.credentials)
    assert reply.status == 200, reply
