"""A board's label as files, and the commands that a station runs: printer, power, rpiboot."""

from __future__ import annotations

import subprocess
from collections.abc import Sequence
from pathlib import Path

from vigie_provisioning.errors import ProvisioningError
from vigie_provisioning.factory import label
from vigie_provisioning.factory.jobs import Job
from vigie_provisioning.factory.jobstore import JobStore
from vigie_provisioning.factory.stationconfig import StationConfig
from vigie_provisioning.factory.steps import Event
from vigie_provisioning.files import write_atomic


def make(store: JobStore, config: StationConfig, job: Job) -> tuple[Path, Path]:
    """Writes the label's PDF and PNG; their paths."""
    at = next((at for at, what in job.history if what.startswith(Event.REGISTERED.value)), 0)
    what = label.Label(job.serial, job.claim_id, config.page, config.department, at)
    files = (store.folder / "labels" / f"{job.serial}.pdf", store.folder / "labels" / f"{job.serial}.png")
    write_atomic(files[0], label.pdf(what))
    write_atomic(files[1], label.png(what))
    return files


def command(argv: Sequence[str], seconds: float) -> None:
    """Runs a command. ProvisioningError quotes its last words when it fails, is missing or takes too long."""
    try:
        done = subprocess.run(argv, check=False, capture_output=True, text=True, timeout=seconds)
    except OSError as e:
        remedy = "install it, or change the configuration"
        raise ProvisioningError(f"{argv[0]}: cannot be run ({e.strerror}); {remedy}") from e
    except subprocess.TimeoutExpired as e:
        raise ProvisioningError(f"{argv[0]}: not done after {seconds:.0f} s") from e
    if done.returncode != 0:
        last = (done.stderr or done.stdout).strip().splitlines()[-1:]
        raise ProvisioningError(f"{argv[0]}: failed ({done.returncode}) {' '.join(last)[:200]}")
