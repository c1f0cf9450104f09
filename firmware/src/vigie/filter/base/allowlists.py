"""MISP warning lists and top sites: what large numbers of people use, so what a feed must not take away.

The lists are not part of the product; their place is given by the caller. Which of them count, and how:

FRONT      addresses behind which thousands of sites answer (CDN, big mail, shared hosting clusters): no entry may hold
           them, not even a single address. One address of Cloudflare blocked for a bad site takes a thousand good ones.
RENTED     clouds whose machines are rented one by one: a single address listed there is somebody's machine and stays
           blockable; a prefix would take the neighbours too.
RESOLVERS  tens of thousands of open resolvers, some of them somebody's forgotten router: one that is listed by itself
           is protected; a prefix that holds one is not cut.
CURATED    names of services, held by hand: enough alone to protect a name.
POPULAR    names ranked by traffic. Malware gets ranked too (it makes traffic), so two of these lists must agree.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from vigie.errors import FeedError
from vigie.filter.base.readers.source import is_archive, members, unfold
from vigie.filter.base.readers.tokens import Range, classify
from vigie.filter.base.readers.tokens import name as name_of

FRONT: Final = (
    "cloudflare",
    "fastly",
    "stackpath",
    "bunny-net",
    "akamai",
    "apple",
    "microsoft-office365-ip",
    "microsoft-office365-cn",
    "google-gmail-sending-ips",
    "wikimedia",
    "zscaler",
    "ovh-cluster",
    "crl-ip",
    "smtp-receiving-ips",
    "umbrella-blockpage-v4",
    "umbrella-blockpage-v6",
)
RESOLVERS: Final = ("public-dns-v4", "public-dns-v6")
RENTED: Final = (
    "amazon-aws",
    "google-gcp",
    "microsoft-azure",
    "microsoft-azure-china",
    "microsoft-azure-germany",
    "microsoft-azure-us-gov",
    "oracle-oci",
    "github",
    "smtp-sending-ips",
)
CURATED: Final = (
    "google",
    "microsoft",
    "microsoft-office365",
    "microsoft-win10-connection-endpoints",
    "microsoft-mdca-proxy",
    "crl-hostname",
    "captive-portals",
    "bank-website",
    "lots-project",
    "url-shortener",
    "link-in-bio",
    "umbrella-blockpage-hostname",
)
POPULAR: Final = (
    "tranco10k",
    "majestic_million",
    "cisco_top1000",
    "cloudflare-top10k",
    "moz-top500",
    "alexa",
    "dynamic-dns",
    "university_domains",
)
AGREEING: Final = 2
_MAX_BYTES: Final = 128 << 20


@dataclass(slots=True)
class Allowlists:
    """front, rented, resolvers: (range, list name). names: name -> list name."""

    front: list[tuple[Range, str]] = field(default_factory=list)
    rented: list[tuple[Range, str]] = field(default_factory=list)
    resolvers: list[tuple[Range, str]] = field(default_factory=list)
    names: dict[str, str] = field(default_factory=dict)
    used: list[str] = field(default_factory=list)
    _popular: dict[str, frozenset[str]] = field(default_factory=dict)

    def take(self, stem: str, values: list[str]) -> None:
        """File one list by its name; a list that is not known here does not count."""
        ranges = {FRONT: self.front, RENTED: self.rented, RESOLVERS: self.resolvers}
        for stems, target in ranges.items():
            if stem in stems:
                self.used.append(stem)
                target += [(what, stem) for what in map(classify, values) if isinstance(what, Range)]
                return
        if stem not in CURATED and stem not in POPULAR:
            return
        self.used.append(stem)
        names = {found for value in values if (found := name_of(value.strip().removeprefix(".")))}
        if stem in CURATED:
            for name in names:
                self.names.setdefault(name, stem)
        else:
            self._popular[stem] = self._popular.get(stem, frozenset()) | names

    def agree(self) -> None:
        """Once every list is filed: keep the popular names that enough lists hold."""
        votes = Counter(name for names in self._popular.values() for name in names)
        for name, count in votes.items():
            if count >= AGREEING:
                lists = ", ".join(stem for stem, names in self._popular.items() if name in names)
                self.names.setdefault(name, lists)


def load(*paths: Path) -> Allowlists:
    """Warning lists from archives, folders or files: MISP JSON, or text with one name per line. FeedError."""
    lists = Allowlists()
    for path in paths:
        found = 0
        for stem, content in _contents(path):
            found += 1
            lists.take(stem, _values(path, stem, content))
        if not found:
            raise FeedError(path, None, "no list in there: JSON warning lists or text files are expected")
    lists.agree()
    return lists


def _contents(path: Path) -> Iterator[tuple[str, bytes]]:
    if path.is_dir():
        for file in sorted(path.iterdir()):
            if file.is_file() and not file.name.startswith("."):
                yield _stem(file.name), unfold(file, _MAX_BYTES)
        return
    data = unfold(path, _MAX_BYTES)
    if is_archive(data):
        for member, content in members(path, data, _MAX_BYTES):
            yield _stem(Path(member).name), content
    else:
        yield _stem(path.name), data


def _stem(name: str) -> str:
    return name.split(".")[0]


def _values(path: Path, stem: str, content: bytes) -> list[str]:
    if content.lstrip()[:1] != b"{":
        return content.decode("utf-8", "replace").split("\n")
    try:
        document = json.loads(content)
        return [str(value) for value in document["list"]]
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise FeedError(path, None, f"{stem}: not a MISP warning list ({error})") from error
