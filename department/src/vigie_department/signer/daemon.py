"""`vigie-department signer`: the operations on a unix socket, each for the users who need it. No network, no web.

All of them are plain functions, so the socket's single worker thread runs them one after the other.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from vigie_department.config import Config
from vigie_department.signer.keys import settings_of
from vigie_department.signer.service import TOLD, Service
from vigie_provisioning.jsonsocket import Allow, Operation, Params, Peer, Server, run

REQUEST_MAX = 16 << 20


def operations(service: Service, config: Config) -> dict[str, Operation]:
    """What may be asked, and by whom besides root and the signer's own user."""
    users = config.users
    steer = Allow(users=tuple(name for name in (users.console, users.ingest) if name))
    publish = Allow(users=(users.publisher,) if users.publisher else ())
    both = Allow(users=(*steer.users, *publish.users))
    nobody = Allow()
    table: dict[str, tuple[Callable[[str, Params], dict[str, Any]], Allow]] = {
        "sign-desired": (service.sign_desired, steer),
        "sign-command": (service.sign_command, steer),
        "tuf-publish": (service.tuf_publish, publish),
        "tuf-refresh": (service.tuf_refresh, publish),
        "tuf-current": (service.tuf_current, publish),
        "request": (service.request, both),
        "approve": (service.approve, both),
        "requests": (service.requests, both),
        "operators": (service.operators, both),
        "operator-add": (service.operator_add, nobody),
        "operator-remove": (service.operator_remove, nobody),
        "next-keys": (service.next_keys, nobody),
        "install": (service.install, nobody),
        "retire-steering": (service.retire_steering, nobody),
        "log": (service.read_log, both),
        "status": (service.status, both),
    }

    def handler(function: Callable[[str, Params], dict[str, Any]]) -> Callable[[Peer, Params], dict[str, Any]]:
        return lambda peer, params: function(peer.name, params)

    return {name: Operation(handler(function), allow) for name, (function, allow) in table.items()}


def serve(config: Config, ready: Callable[[], None] | None = None) -> None:
    """Runs until SIGTERM. Refuses to start when the log is broken or a key is missing."""
    service = Service(config.paths.signer, config.paths.repository, settings_of(config))
    try:
        # every user may open the socket: who may do what is judged call by call
        mode = 0o666 if any((config.users.console, config.users.publisher)) else 0o600
        server = Server(
            config.paths.signer_socket, operations(service, config), errors=TOLD, mode=mode, request_max=REQUEST_MAX
        )
        run(server, ready)
    finally:
        service.close()
