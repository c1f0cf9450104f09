"""`vigie-department serve`: the console under uvicorn, on a unix socket that nginx reaches."""

from __future__ import annotations

import contextlib
from typing import Any

import uvicorn

from vigie_department.config import Config
from vigie_department.console import setup


def run(config: Config, tcp: str = "") -> int:
    """Until a signal. tcp: `address:port` instead of the socket, for tests on the loopback."""
    setup.start(config)
    from vigie_department.console.web.asgi import application

    options: dict[str, Any] = {
        # nginx is the only peer: what it says of the client is believed
        "proxy_headers": True,
        "forwarded_allow_ips": "*",
        "server_header": False,
        "date_header": False,
        "log_config": None,
        "access_log": False,
        "lifespan": "off",
        "timeout_graceful_shutdown": 10,
        "limit_concurrency": 200,
    }
    if tcp:
        host, _, port = tcp.rpartition(":")
        uvicorn.run(application, host=host, port=int(port), **options)
        return 0
    path = config.paths.console_socket
    path.parent.mkdir(parents=True, exist_ok=True)
    with contextlib.suppress(FileNotFoundError):
        path.unlink()
    # uvicorn opens the socket to all (0666): nginx's user is another one; whoever connects still needs a session
    uvicorn.run(application, uds=str(path), **options)
    return 0
