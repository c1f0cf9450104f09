"""Readers of feeds: one small module per family of formats, all filling a :class:`Sink`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from vigie.filter.base.readers.adblock import read_adblock
from vigie.filter.base.readers.hosts import read_hosts
from vigie.filter.base.readers.misp import read_event, read_warninglist
from vigie.filter.base.readers.options import Options
from vigie.filter.base.readers.plain import read_maltrail, read_plain
from vigie.filter.base.readers.sink import Sink
from vigie.filter.base.readers.suricata import read_suricata
from vigie.filter.base.readers.tables import read_csv, read_dshield, read_normalised, read_scored
from vigie.filter.base.readers.zeek import read_zeek

Reader = Callable[[bytes, Options, Sink], None]

FORMATS: Final[dict[str, Reader]] = {
    "plain": read_plain,
    "hosts": read_hosts,
    "adblock": read_adblock,
    "maltrail": read_maltrail,
    "normalised": read_normalised,
    "csv": read_csv,
    "scored": read_scored,
    "dshield": read_dshield,
    "zeek": read_zeek,
    "misp": read_event,
    "warninglist": read_warninglist,
    "suricata": read_suricata,
}
"""Every format by the name that a feed set or the command line gives it."""
