"""What is known of public feeds from the name of their file: category, direction, action, licence.

Used when the command line gives files without a feed set. Directions follow from what an address is listed for: who
scans or guesses passwords is refused when it comes in, but a web server that shares its address stays reachable; a
command server is refused both ways. Weak signals and lists of a policy (DoH, VPN) only observe.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

from vigie.contract.codes import Action, Category, Direction
from vigie.filter.base.columns import Feed
from vigie.filter.base.readers.options import Options

_OUT, _IN, _BOTH = Direction.OUT, Direction.IN, Direction.BOTH
_BLOCK, _OBSERVE = Action.BLOCK, Action.OBSERVE


@dataclass(frozen=True, slots=True)
class Known:
    """`pattern` is searched in the last three parts of the path, lower case, joined by "/"."""

    pattern: str
    category: Category
    direction: Direction
    action: Action = _BLOCK
    licence: str = ""
    redistributable: bool = False
    source: str = ""


_MALTRAIL = "https://github.com/stamparm/maltrail"
_C2T = "https://github.com/montysecurity/C2-Tracker"
_SW = "https://github.com/ShadowWhisperer/IPs"
_FH = "https://iplists.firehol.org/"
_CP = "https://github.com/CriticalPathSecurity/Public-Intelligence-Feeds"
_CPZ = "https://github.com/CriticalPathSecurity/Zeek-Intelligence-Feeds"
_RM = "https://github.com/romainmarcoux/malicious-ip"
_BW = "https://github.com/bitwire-it/ipblocklist"

KNOWN: Final = (
    Known(r"c2-tracker/.*(mozi|botnet)", Category.BOTNET, _BOTH, source=_C2T),
    Known(r"c2-tracker/.*(cryptominer|xmrig)", Category.CRYPTOMINING, _BOTH, source=_C2T),
    Known(r"c2-tracker/gophish", Category.PHISHING, _BOTH, source=_C2T),
    Known(r"c2-tracker/", Category.C2, _BOTH, source=_C2T),
    Known(r"bitwire/.*inbound", Category.SCANNER, _IN, licence="MIT", redistributable=True, source=_BW),
    Known(r"bitwire/.*outbound", Category.MALWARE, _OUT, licence="MIT", redistributable=True, source=_BW),
    Known(r"blackbook", Category.MALWARE, _OUT, source="https://github.com/stamparm/blackbook"),
    Known(r"ipsum", Category.SCANNER, _IN, _BLOCK, "Unlicense", True, "https://github.com/stamparm/ipsum"),
    Known(
        r"data-shield",
        Category.SCANNER,
        _IN,
        _BLOCK,
        "GPL-3.0",
        True,
        "https://github.com/duggytuxy/Data-Shield_IPv4_Blocklist",
    ),
    Known(r"(feodo|cobaltstrike|sslbl)", Category.C2, _BOTH, licence="CC0-1.0 (abuse.ch)", source="https://abuse.ch/"),
    Known(r"threatfox_ips", Category.C2, _BOTH, _BLOCK, "CC0-1.0", True, "https://threatfox.abuse.ch/"),
    Known(r"threatfox", Category.C2, _BOTH, _BLOCK, "MIT", True, _CP),
    Known(r"(ragnar|ransomware)", Category.RANSOMWARE, _BOTH, licence="MIT", redistributable=True, source=_CPZ),
    Known(r"(openphish|phish)", Category.PHISHING, _OUT, source="https://openphish.com/"),
    Known(
        r"(amnesty|nso_|pegasus|stalkerware)",
        Category.STALKERWARE,
        _OUT,
        _BLOCK,
        "CC-BY",
        True,
        "https://github.com/AssoEchap/stalkerware-indicators",
    ),
    Known(r"(doh-|doh_|dns-over-https)", Category.DOH, _OUT, _OBSERVE, source=_CPZ),
    Known(r"tor_exit|torexit|tor-exit", Category.ANONYMISER, _IN, source=_FH),
    Known(r"shadowwhisperer/tunnels|vpn", Category.ANONYMISER, _OUT, _OBSERVE, "Unlicense", True, _SW),
    Known(r"shadowwhisperer/threats", Category.BOTNET, _IN, _BLOCK, "Unlicense", True, _SW),
    Known(r"shadowwhisperer/probes", Category.SCANNER, _IN, _BLOCK, "Unlicense", True, _SW),
    Known(r"(cybercrime|vxvault)", Category.MALWARE, _BOTH, source=_FH),
    Known(
        r"(firehol_level1|et_block|spamhaus|/drop|edrop)",
        Category.HIJACKED,
        _BOTH,
        licence="Spamhaus: keep the header",
        source="https://www.spamhaus.org/drop/",
    ),
    Known(r"(stopforumspam|spam)", Category.SPAM, _IN, source=_FH),
    Known(r"(ssh|brute|blocklist_de|compromised|/sip)", Category.BRUTEFORCE, _IN, source=_FH),
    Known(
        r"(dshield|ciarmy|cinsscore|firehol_level|isc\.sans|honeypot|snort|scanner|inbound)",
        Category.SCANNER,
        _IN,
        source=_FH,
    ),
    Known(r"romainmarcoux/|full-40k", Category.SCANNER, _IN, _BLOCK, "MIT", True, _RM),
    Known(
        r"(hagezi_fake|scam|fraud|fake)",
        Category.SCAM,
        _OUT,
        licence="GPL-3.0",
        redistributable=True,
        source="https://github.com/hagezi/dns-blocklists",
    ),
    Known(
        r"inversion",
        Category.MALWARE,
        _OUT,
        licence="CC-BY-NC-SA-4.0",
        source="https://github.com/elliotwutingfeng/Inversion-DNSBL-Blocklists",
    ),
    Known(r"(coinminer|cryptomin|nocoin|coinblocker)", Category.CRYPTOMINING, _OUT),
    Known(r"botnet", Category.BOTNET, _BOTH),
    Known(r"(^|[^a-z0-9])(c2|c&c|cnc)([^a-z0-9]|$)", Category.C2, _BOTH),
    Known(r"(malware|urlhaus|toxic|malicious)", Category.MALWARE, _BOTH),
)
"""The first that matches holds."""

_UNKNOWN: Final = Known("", Category.SUSPICIOUS, _BOTH)
"""A list nobody knows: blocked, since somebody put it on the command line, but under a modest name."""

_FAMILIES: Final = (
    ("malware", Category.MALWARE, _BOTH, _BLOCK),
    ("malicious", Category.MALWARE, _BOTH, _BLOCK),
    ("mass_scanner", Category.SCANNER, _IN, _BLOCK),
    ("suspicious", Category.SUSPICIOUS, _BOTH, _OBSERVE),
)
"""Maltrail's classes, apart: `suspicious` holds parking sites, "what is my address", remote control tools."""


def stem(path: Path) -> str:
    """Name of the feed: the file's, without what wraps it."""
    name = path.name
    for suffix in (
        ".gz",
        ".xz",
        ".tar",
        ".txt",
        ".csv",
        ".tsv",
        ".ipset",
        ".netset",
        ".intel",
        ".json",
        ".rules",
        ".list",
    ):
        name = name.removesuffix(suffix)
    return name or path.name


def guess(path: Path) -> list[tuple[Feed, Options]]:
    """The feed, or the feeds, that a file holds, from its name."""
    key = "/".join(path.parts[-3:]).lower()
    if "maltrail" in path.name.lower():
        return _maltrail(path)
    known = next((k for k in KNOWN if re.search(k.pattern, key)), _UNKNOWN)
    feed = Feed(
        name=stem(path),
        category=known.category,
        direction=known.direction,
        action=known.action,
        source=known.source or path.name,
        redistributable=known.redistributable,
        licence=known.licence,
    )
    return [(feed, Options())]


def _maltrail(path: Path) -> list[tuple[Feed, Options]]:
    base = Feed(
        name=stem(path),
        category=Category.MALWARE,
        direction=_BOTH,
        action=_BLOCK,
        source=_MALTRAIL,
        redistributable=True,
        licence="MIT",
    )
    if ".tsv" not in path.name:
        return [(base, Options(format="maltrail"))]
    return [
        (
            replace(base, name=f"{base.name}-{label}", category=category, direction=direction, action=action),
            Options(format="normalised", label=f"{label}/"),
        )
        for label, category, direction, action in _FAMILIES
    ]
