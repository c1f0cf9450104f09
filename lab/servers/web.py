"""HTTP on port 80, HTTPS on port 443, of every address. Says per connection how many bytes came before TLS answered.

A thread per connection: the question it answers is "did one byte arrive?", not "how fast".
"""

from __future__ import annotations

import argparse
import contextlib
import socket
import ssl
import threading
from pathlib import Path

from lab.servers.report import say

BODY = "<!doctype html><title>{name}</title><p>Bienvenue sur {name}.\n"
MAX_HEADER = 65536


def context(chain: Path, key: Path, names: dict[int, str]) -> ssl.SSLContext:
    made = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    made.load_cert_chain(chain, key)
    made.set_alpn_protocols(["http/1.1"])

    def note(sock: ssl.SSLObject | ssl.SSLSocket, name: str | None, _: ssl.SSLContext) -> None:
        names[threading.get_ident()] = name or ""

    made.sni_callback = note
    return made


def answer(sock: socket.socket, name: str) -> tuple[str, int]:
    """One request; returns its path and the size of its body."""
    data = b""
    while b"\r\n\r\n" not in data and len(data) < MAX_HEADER:
        chunk = sock.recv(65536)
        if not chunk:
            return "", 0
        data += chunk
    head, _, body = data.partition(b"\r\n\r\n")
    lines = head.decode("latin-1").split("\r\n")
    path = lines[0].split(" ")[1] if lines[0].count(" ") >= 2 else ""
    fields = {line.split(":", 1)[0].lower(): line.split(":", 1)[1].strip() for line in lines[1:] if ":" in line}
    size, got = int(fields.get("content-length", "0")), len(body)
    while got < size:
        chunk = sock.recv(65536)
        if not chunk:
            break
        got += len(chunk)
    page = BODY.format(name=fields.get("host", name)).encode()
    if path.startswith("/octets/"):
        page = b"x" * min(int(path.rsplit("/", 1)[1]), 1 << 28)
    sock.sendall(b"HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nConnection: close\r\n"
                 b"Content-Length: " + str(len(page)).encode() + b"\r\n\r\n" + page)  # fmt: skip
    return path, got


def serve(raw: socket.socket, tls: ssl.SSLContext | None, names: dict[int, str]) -> None:
    address, port = raw.getsockname()[:2]
    first, path, body, error = 0, "", 0, ""
    names.pop(threading.get_ident(), None)
    try:
        raw.settimeout(30)
        first = len(raw.recv(65536, socket.MSG_PEEK))
        if first:
            sock = tls.wrap_socket(raw, server_side=True) if tls else raw
            path, body = answer(sock, address)
            if isinstance(sock, ssl.SSLSocket):
                with contextlib.suppress(OSError, ssl.SSLError):
                    sock.unwrap()
            sock.close()
    except (OSError, ssl.SSLError) as failure:
        error = str(failure)
    finally:
        raw.close()
    say("web", to=address.removeprefix("::ffff:"), port=port, first=first, path=path, body=body, error=error,
        sni=names.get(threading.get_ident(), ""))  # fmt: skip


def listen(port: int, tls: ssl.SSLContext | None, names: dict[int, str]) -> None:
    with socket.create_server(("::", port), family=socket.AF_INET6, backlog=1024, dualstack_ipv6=True) as server:
        say("ready", port=port)
        while True:
            raw, _ = server.accept()
            threading.Thread(target=serve, args=(raw, tls, names), daemon=True).start()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--chain", type=Path, required=True)
    parser.add_argument("--key", type=Path, required=True)
    parser.add_argument("--http", type=int, default=80)
    parser.add_argument("--https", type=int, default=443)
    arguments = parser.parse_args()
    names: dict[int, str] = {}
    tls = context(arguments.chain, arguments.key, names)
    threading.Thread(target=listen, args=(arguments.http, None, names), daemon=True).start()
    listen(arguments.https, tls, names)


if __name__ == "__main__":
    main()
