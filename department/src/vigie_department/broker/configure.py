"""Writes the servers' configuration. Run by `init`, and again whenever department.toml changes; idempotent."""

from __future__ import annotations

import os
import secrets
import shutil
from pathlib import Path

from vigie_department.broker import mosquitto, nginx
from vigie_department.broker.acl import access_list
from vigie_department.broker.errors import BrokerError
from vigie_department.broker.files import replace_private
from vigie_department.broker.plan import BrokerPlan, WebPlan, broker_plan, web_plan
from vigie_department.broker.watch import Watch
from vigie_department.config import Config
from vigie_department.signer.files import make_folder, read_bounded, write_atomically


def configure(config: Config) -> list[Path]:
    """Both servers; returns the files written. The pki folder must hold its certificates and lists."""
    return [
        *configure_broker(broker_plan(config), config.users.broker),
        *configure_web(web_plan(config), config.users.web),
    ]


def configure_broker(plan: BrokerPlan, user: str = "") -> list[Path]:
    """mosquitto.conf, password of the control socket, first access list, checked revocation list.

    user: owner of all of it, when this runs as root. BrokerError when there is no usable revocation list: mosquitto
    would not start.
    """
    for folder in (plan.folder, plan.persistence):
        make_folder(folder, 0o700)
        _give(user, folder)
    replace_private(plan.configuration, mosquitto.configuration(plan).encode())
    password = _password(plan)
    replace_private(plan.passwords, mosquitto.password_line(password, secrets.token_bytes(12)).encode())
    if not plan.acl.exists():
        replace_private(plan.acl, access_list(()).encode())
    prepare(plan)
    return [plan.configuration, plan.passwords, plan.control_password, plan.acl, plan.crl_in_force]


def prepare(plan: BrokerPlan) -> None:
    """One round of the watch, before mosquitto starts. BrokerError when mosquitto would then refuse to start."""
    watch = Watch(plan, tell=lambda line: None)
    watch.step()
    if watch.in_force.crl is None:
        raise BrokerError("; ".join(problem.text for problem in watch.problems))


def configure_web(plan: WebPlan, user: str = "") -> list[Path]:
    """nginx.conf and its working folder."""
    make_folder(plan.folder, 0o755)
    make_folder(plan.local, 0o755)
    make_folder(plan.work, 0o700)
    write_atomically(plan.configuration, nginx.configuration(plan).encode(), 0o644)
    _give(user, plan.work)
    return [plan.configuration]


def _password(plan: BrokerPlan) -> bytes:
    if plan.control_password.exists():
        return read_bounded(plan.control_password, 256)
    password = secrets.token_hex(32).encode()
    replace_private(plan.control_password, password)
    return password


def _give(user: str, *paths: Path) -> None:
    """To that user and its group; only root can, and only then it is needed."""
    if not user or os.geteuid() != 0:
        return
    for path in paths:
        if path.exists():
            try:
                shutil.chown(path, user, user)
            except (LookupError, OSError) as error:
                raise BrokerError(
                    f"{path}: cannot be given to {user} ({error}); is the package's user there?"
                ) from error
