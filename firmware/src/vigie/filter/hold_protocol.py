"""What the daemon and its hold worker agree on: a SOCK_SEQPACKET socket whose messages are event records.

The first message is READY: from there on frames may be held. The end of the socket, on either side, is the end of the
worker.
"""

from __future__ import annotations

from typing import Final

READY: Final = b"ready"
REPORT_MAX: Final = 4096
