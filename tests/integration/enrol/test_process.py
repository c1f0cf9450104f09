"""`vigie enrol` as a process: its commands, clocks that are wrong, a certificate that expired in a drawer."""

from __future__ import annotations

import datetime as dt
import json
import os
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import yaml

from lab.loopback import tool
from tests.integration.enrol.boxes import Box
from vigie.enrol import credentials, layout
from vigie.enrol.codes import Code
from vigie.host.trusted_clock import TrustedClock
from vigie_provisioning.authority import ca as authority_ca
from vigie_provisioning.authority import profiles

pytestmark = pytest.mark.integration


def _config(box: Box) -> Path:
    paths, times = box.config.paths, box.config.intervals.enrol
    path = paths.run.parent / "box.yaml"
    path.write_text(
        yaml.safe_dump(
            {
                "domain": box.config.domain,
                "model": box.config.model,
                "bridge": "lo",
                "set_clock": False,
                "paths": {name: str(getattr(paths, name)) for name in ("trust", "identity", "state", "run")},
                "ports": {"https": box.config.ports.https, "http": 1},
                "addresses": dict(box.config.addresses),
                "intervals": {"enrol": {name: getattr(times, name) for name in ("first_s", "most_s", "refused_s")}},
            }
        )
    )
    return path


@contextmanager
def _running(box: Box, when: str = "") -> Iterator[subprocess.Popen[str]]:
    """The service. when: what its wall clock says at its start (faketime); CLOCK_BOOTTIME is right, as on a board."""
    argv = [tool("vigie"), "enrol", "run", "--config", str(_config(box))]
    environment = os.environ | {"VIGIE_LANG": "fr"}
    if when:
        # The library itself: the command `faketime` would stand between the service and its signals.
        library = next(Path("/usr/lib").glob("*/faketime/libfaketime.so.1"))
        environment |= {"LD_PRELOAD": str(library), "FAKETIME": f"@{when}", "FAKETIME_DONT_FAKE_MONOTONIC": "1"}
    (box.config.paths.enrol / "status.json").unlink(missing_ok=True)  # what it says next, this process says
    process = subprocess.Popen(argv, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=environment)
    try:
        yield process
    finally:
        process.send_signal(signal.SIGTERM)
        try:
            out, _none = process.communicate(timeout=30)
        except subprocess.TimeoutExpired:
            process.kill()
            out, _none = process.communicate()
        assert process.returncode == 0, out


def _wait(box: Box, code: Code, process: subprocess.Popen[str], seconds: float = 60.0) -> None:
    end = time.monotonic() + seconds
    while box.status.code is not code:
        assert process.poll() is None and time.monotonic() < end, (box.status, process.poll())
        time.sleep(0.05)


def _vigie(*argv: str) -> subprocess.CompletedProcess[str]:
    environment = os.environ | {"VIGIE_LANG": "fr"}
    return subprocess.run(
        [tool("vigie"), *argv], capture_output=True, text=True, check=False, timeout=60, env=environment
    )


def test_the_service_and_its_commands(box: Box) -> None:
    config = str(_config(box))
    with _running(box) as process:
        _wait(box, Code.MEMBER, process)
        done = _vigie("enrol", "status", "--config", config)
        assert done.returncode == 0 and box.serial in done.stdout and "rattaché au département" in done.stdout, done
        done = _vigie("enrol", "status", "--json", "--config", config)
        told = json.loads(done.stdout)
        assert told["code"] == "member" and told["box_id"] == box.box_id, told
        second = _vigie("enrol", "run", "--config", config)
        assert second.returncode == 1 and "another" in second.stderr, second
        done = _vigie("enrol", "reset", "--configuration", "--yes", "--config", config)
        assert done.returncode == 0, done
        end = time.monotonic() + 60
        while box.record()["seq"] != 2:
            assert time.monotonic() < end, box.events()
            time.sleep(0.1)
    done = _vigie("enrol", "reset", "--decommission", "--yes", "--config", config)  # without a service
    assert done.returncode == 0 and "prévenu" in done.stdout, done
    assert box.record()["state"] == "decommissioned"
    done = _vigie("enrol", "status", "--config", config)
    assert done.returncode == 1 and "retiré du service" in done.stdout, done


def test_a_reset_that_nobody_confirms_does_nothing(box: Box) -> None:
    done = _vigie("enrol", "reset", "--decommission", "--config", str(_config(box)))
    assert done.returncode == 1 and "rien" in done.stdout, done
    assert (box.config.paths.identity / "identity.key").exists()


def test_decommissioning_without_a_network_says_that_an_operator_must_be_told(box: Box) -> None:
    box.through(1)
    done = _vigie("enrol", "reset", "--decommission", "--yes", "--config", str(_config(box)))
    assert done.returncode == 0 and "numéro de série" in done.stdout, done
    assert not (box.config.paths.identity / "identity.key").exists()


@pytest.mark.parametrize("when", ["1970-01-02 00:00:00", "2040-01-01 00:00:00"])
def test_a_clock_that_is_wrong_by_decades(box: Box, when: str) -> None:
    """The process sees the wrong time from its start (faketime), cannot set it, and still judges dates rightly."""
    with _running(box, when) as process:
        _wait(box, Code.MEMBER, process)
        clock = TrustedClock(box.config)
        assert clock.word() == "signed" and abs(clock.now() - time.time()) < 30
        assert abs(clock.floor() - time.time()) < 30
    # a reboot with the same wrong clock: no anchor, a certificate that looks expired in 2040
    (box.config.paths.run_enrol / "clock.json").unlink()
    with _running(box, when) as process:
        end = time.monotonic() + 60
        while TrustedClock(box.config).word() != "signed":
            assert time.monotonic() < end and process.poll() is None
            time.sleep(0.05)
        _wait(box, Code.MEMBER, process)
    assert box.record()["seq"] == 1, "a wrong clock made it enrol again"


def test_ntp_that_lies_once_while_the_box_is_a_member(box: Box) -> None:
    with _running(box) as process:
        _wait(box, Code.MEMBER, process)
    with _running(box, "2040-01-01 00:00:00") as process:  # the same boot: the anchor holds
        _wait(box, Code.MEMBER, process)
        clock = TrustedClock(box.config)
        assert clock.word() == "signed" and abs(clock.now() - time.time()) < 30
    with _running(box) as process:
        _wait(box, Code.MEMBER, process)
    assert box.record()["seq"] == 1 and box.events() == ["registered", "enrolled", "confirmed"]


def test_a_certificate_that_expired_in_a_drawer(box: Box) -> None:
    box.until(Code.MEMBER)
    config = box.department.config
    places = authority_ca.Places(config.paths.authority, config.paths.pki, config.paths.trust)
    ca = authority_ca.load(places)
    key, long_ago = profiles.new_key(), profiles.now() - dt.timedelta(days=120)
    issuing = ca.current("issuing", profiles.now())
    old = profiles.box(key.public_key(), box.box_id, issuing, long_ago)
    pem = box.config.paths.state / "old.key"
    authority_ca.save_key(pem, key)
    chain = authority_ca.pem([old, issuing.certificate])
    layout.install(box.config.paths, box.box_id, pem.read_bytes(), chain, config.mqtt_host, (8883, 443))
    before = credentials.load(box.config.paths)
    box.restart()
    assert box.until(Code.MEMBER).not_after > time.time()
    assert credentials.load(box.config.paths).generation != before.generation
    assert box.record()["seq"] == 2 and "conflict" not in box.events()
