"""The signer as it runs: a process behind a socket that survives kill -9 and refuses to run on a changed log."""

from __future__ import annotations

import signal
import stat
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from vigie.contract import dsse
from vigie.contract.downward import Desired
from vigie_department.errors import RefusedError, UnavailableError
from vigie_department.signer.log import verify
from vigie_department.signer.store import Store

from .conftest import Place

pytestmark = [pytest.mark.integration]


def desired(box: int, version: int) -> dict[str, object]:
    now = int(time.time())
    letters = "abcdefghijklmnopqrstuvwxyz234567"
    return Desired(f"vg-{'c' * 15}{letters[box]}", version, now, now + 86400).to_dict()


def test_what_was_answered_is_remembered_after_kill_9(place: Place) -> None:
    answered: dict[int, int] = {}
    envelope = place.signer.sign_desired(desired(0, 1), "alice")
    steering = Store(place.config.paths.signer).steering()
    steering.verify(dsse.Envelope.from_bytes(envelope), dsse.DESIRED_TYPE)

    def steer(box: int) -> None:
        for version in range(1, 10_000):
            try:
                place.signer.sign_desired(desired(box, version), "alice")
            except UnavailableError:
                return
            answered[box] = version

    with ThreadPoolExecutor(4) as pool:
        done = [pool.submit(steer, box) for box in range(1, 5)]
        while sum(answered.values()) < 60:
            assert not any(one.done() for one in done)
            time.sleep(0.01)
        place.kill()
        for one in done:
            one.result(30)
    assert len(answered) == 4
    place.start()
    for box, version in answered.items():
        with pytest.raises(RefusedError, match="is in force") as refused:
            place.signer.sign_desired(desired(box, version), "alice")
        assert refused.value.code == "rule"
        # one more may have been signed whose answer was lost on its way
        place.signer.sign_desired(desired(box, version + 2), "alice")
    assert verify(Store(place.config.paths.signer).log) >= sum(answered.values())


def test_it_does_not_start_on_a_log_that_was_changed(place: Place) -> None:
    place.signer.sign_desired(desired(1, 1), "alice")
    place.signer.sign_desired(desired(1, 2), "alice")
    assert "2 enregistrements, chaîne intacte" in place.run("log", "verify")
    assert place.kill(signal.SIGTERM) == 0
    path = next(Store(place.config.paths.signer).log.glob("*.jsonl"))
    path.write_bytes(path.read_bytes().replace(b'"who":"alice"', b'"who":"bobby"', 1))
    assert "chain is broken at record 1" in place.run("signer", code=1)
    assert "chain is broken at record 1" in place.run("log", "verify", code=1)


def test_the_socket_is_for_its_user_alone_when_there_are_no_others(place: Place) -> None:
    mode = stat.S_IMODE(place.config.paths.signer_socket.stat().st_mode)
    assert mode == 0o600


def test_a_second_signer_is_refused(place: Place) -> None:
    assert "another process listens" in place.run("signer", code=2)
    place.signer.status()


def test_operations_that_are_none(place: Place) -> None:
    with pytest.raises(RefusedError, match="unknown operation"):
        place.signer.call("sign-anything")
    with pytest.raises(RefusedError, match="payload"):
        place.signer.call("sign-desired", operator="alice", payload="text")
    with pytest.raises(RefusedError):
        place.signer.call("sign-desired", operator="alice", payload=desired(1, 1), more=1)
