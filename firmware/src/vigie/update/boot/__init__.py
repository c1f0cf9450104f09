"""Which slot starts: trial, commit and going back behind one interface (docs/adr/0022).

`open_boot()` gives the `Boot` of this board (`tryboot` on the CM4, U-Boot's environment on the virtual one): for root.
`read()` gives everybody what was last said of it. `python3 -m vigie.update.boot` is RAUC's custom backend.
"""

from __future__ import annotations

from .boot import Boot
from .chain import BootError, Chain, Slot, other
from .notes import Notes, Trial
from .opening import Places, Said, open_boot, read
from .outcome import Cause, Outcome

__all__ = [
    "Boot",
    "BootError",
    "Cause",
    "Chain",
    "Notes",
    "Outcome",
    "Places",
    "Said",
    "Slot",
    "Trial",
    "open_boot",
    "other",
    "read",
]
