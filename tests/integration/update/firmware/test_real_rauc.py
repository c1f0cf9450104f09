"""The distribution's RAUC on a private bus: the calls of a box, as far as a machine without device-mapper goes."""

from __future__ import annotations

import os
import shutil
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.rauc import HASH, private_bus
from vigie.contract.firmware import UpdateCode
from vigie.update.firmware.rauc import Rauc, RaucError, Wanted

pytestmark = pytest.mark.integration
BACKEND = """#!/bin/sh
echo "$@" >> {folder}/asked
case "$1" in get-primary|get-current) echo A ;; get-state) echo good ;; esac
"""


@pytest.fixture
def rauc(tmp_path: Path) -> Iterator[Rauc]:
    """A box's system.conf in small, with a boot backend that writes down what it is asked."""
    program = shutil.which("rauc")
    assert program, "RAUC is missing: run make setup"
    backend = tmp_path / "backend"
    backend.write_text(BACKEND.format(folder=tmp_path))
    backend.chmod(0o755)
    slots = "".join(
        f"[slot.rootfs.{i}]\ndevice={tmp_path}/slot{i}\ntype=raw\nbootname={name}\n" for i, name in enumerate("AB")
    )
    for i in range(2):
        (tmp_path / f"slot{i}").write_bytes(b"\0" * 4096)
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "30",
         "-subj", "/CN=release", "-keyout", str(tmp_path / "key.pem"), "-out", str(tmp_path / "cert.pem")],
        check=True, capture_output=True, timeout=60,
    )  # fmt: skip
    (tmp_path / "system.conf").write_text(
        "[system]\ncompatible=vigie-cm4\nbootloader=custom\n"
        f"[handlers]\nbootloader-custom-backend={backend}\n[keyring]\npath={tmp_path}/cert.pem\n{slots}"
    )
    with private_bus(tmp_path) as address:
        environment = os.environ | {"DBUS_STARTER_BUS_TYPE": "session", "DBUS_SESSION_BUS_ADDRESS": address}
        log = (tmp_path / "log").open("wb")
        service = subprocess.Popen(
            [program, f"--conf={tmp_path}/system.conf", "--override-boot-slot=A", "service"], env=environment,
            stdout=log, stderr=log,
        )  # fmt: skip
        try:
            box = Rauc(address=address)
            for _ in range(200):
                try:
                    box.mark("good", "booted")
                    break
                except RaucError:
                    assert service.poll() is None, (tmp_path / "log").read_text()
                    time.sleep(0.05)
            yield box
        finally:
            service.terminate()
            service.wait(20)
            log.close()


def asked(folder: Path) -> list[str]:
    return (folder / "asked").read_text().splitlines()


def test_mark_reaches_the_boot_backend(rauc: Rauc, tmp_path: Path) -> None:
    assert "set-state A good" in asked(tmp_path)
    rauc.mark("bad", "other")
    assert asked(tmp_path)[-1] == "set-state B bad"


def test_what_is_no_bundle_is_refused_and_no_slot_is_touched(rauc: Rauc, tmp_path: Path) -> None:
    (tmp_path / "x.raucb").write_bytes(os.urandom(8192))
    before = len(asked(tmp_path))
    with pytest.raises(RaucError) as caught:
        rauc.install(Wanted(str(tmp_path / "x.raucb"), HASH, tmp_path / "cert.pem"), lambda _p: None)
    # one that can neither be bound to a digest nor inspect a bundle (before 1.9) installs nothing at all
    assert caught.value.code in (UpdateCode.BAD_SIGNATURE, UpdateCode.TRUNCATED, UpdateCode.INSTALL), caught.value
    assert not any(line.startswith(("set-primary", "set-state")) for line in asked(tmp_path)[before:])
    assert (tmp_path / "slot1").read_bytes() == b"\0" * 4096
