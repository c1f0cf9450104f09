"""Mosquitto's configuration: mutual TLS 1.3 and nothing else towards the network."""

from __future__ import annotations

import base64
import hashlib
from typing import Final

from vigie_department.broker.plan import CONTROL_USER, BrokerPlan

MAX_PACKET: Final = 65536
"""bytes; contract envelopes are at most 64 KiB with their topic and properties"""
MAX_QUEUED: Final = 20_000
"""messages for one client that is away or slow: ten busy seconds of the ingest; whichever bound comes first"""
MAX_QUEUED_BYTES: Final = 64 << 20
MAX_INFLIGHT: Final = 20
EXPIRATION: Final = "30d"
_ITERATIONS: Final = 101
"""of PBKDF2, as mosquitto_passwd does; the password is 32 random bytes, so that guessing is no matter of iterations"""


def configuration(plan: BrokerPlan) -> str:
    """mosquitto.conf (man 5 mosquitto.conf, version 2.0)."""
    head = f"""\
# Written by `vigie-department broker configure`. Changes made by hand are lost at the next one.
per_listener_settings false
allow_anonymous false
acl_file {plan.acl}
# Only for the control socket below: a session with a certificate has no password.
password_file {plan.passwords}

persistence true
persistence_location {plan.persistence}/
autosave_interval 300
persistent_client_expiration {EXPIRATION}

max_packet_size {MAX_PACKET}
max_queued_messages {MAX_QUEUED}
max_inflight_messages {MAX_INFLIGHT}
max_keepalive 600
max_queued_bytes {MAX_QUEUED_BYTES}
max_inflight_bytes 0
set_tcp_nodelay true
sys_interval 10

log_dest stderr
log_type error
log_type warning
log_type notice
log_timestamp false
connection_messages true
"""
    return head + "".join(_listener(plan, address) for address in plan.listen or ("",)) + _control(plan)


def _listener(plan: BrokerPlan, address: str) -> str:
    return f"""
listener {plan.port}{f" {address}" if address else ""}
tls_version tlsv1.3
certfile {plan.certificate}
keyfile {plan.key}
cafile {plan.clients}
# A checked copy: a reload with a file that cannot be read would let revoked certificates in.
crlfile {plan.crl_in_force}
require_certificate true
use_identity_as_username true
use_username_as_clientid true
max_connections {plan.max_connections}
"""


def _control(plan: BrokerPlan) -> str:
    return f"""
# No network: a socket in a folder that only the broker's user may enter. `broker watch` takes over sessions here.
listener 0 {plan.control}
max_connections 8
"""


def password_line(password: bytes, salt: bytes) -> str:
    """One line of mosquitto's password file (format 7: PBKDF2-HMAC-SHA512), for the control user."""
    digest = hashlib.pbkdf2_hmac("sha512", password, salt, _ITERATIONS)
    encoded = [base64.b64encode(part).decode() for part in (salt, digest)]
    return f"{CONTROL_USER}:$7${_ITERATIONS}${encoded[0]}${encoded[1]}\n"
