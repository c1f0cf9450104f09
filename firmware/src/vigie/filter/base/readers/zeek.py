"""Zeek intelligence files: tab-separated, titled by a `#fields` line."""

from __future__ import annotations

from vigie.filter.base.readers.lines import decoded
from vigie.filter.base.readers.options import Options
from vigie.filter.base.readers.sink import Sink, unusable
from vigie.filter.base.readers.tokens import Indicator, classify

_USED = {"Intel::ADDR", "Intel::SUBNET", "Intel::DOMAIN", "Intel::URL"}


def _url(token: str) -> Indicator:
    """Intel::URL has no scheme; some makers write one."""
    return classify(token if "://" in token else f"http://{token}")


def read_zeek(data: bytes, options: Options, sink: Sink) -> None:
    """Addresses, subnets, domains and bare URLs; hashes, mail addresses and the like are skipped."""
    fields: list[str] = []
    tokens: list[str] = []
    numbers: list[int] = []
    urls: list[tuple[int, str]] = []
    lines = decoded(data)
    sink.tally.lines += len(lines)
    for number, line in enumerate(lines, 1):
        line = line.rstrip("\r")
        if line.startswith("#fields"):
            fields = line.split("\t")[1:]
            sink.tally.blank += 1
            continue
        if not line.strip() or line[0] == "#":
            sink.tally.blank += 1
            continue
        cells = line.split("\t")
        if "indicator" not in fields or "indicator_type" not in fields:
            sink.bad(number, line, "no #fields line with indicator and indicator_type before it")
            continue
        if len(cells) != len(fields):
            sink.bad(number, line, f"{len(cells)} columns where #fields announces {len(fields)}")
            continue
        kind, token = cells[fields.index("indicator_type")].strip(), cells[fields.index("indicator")].strip()
        if kind not in _USED:
            if kind.startswith("Intel::"):
                sink.add(unusable(f"indicator of type {kind[7:40]}"), number, line)
            else:
                sink.bad(number, line, "indicator_type is not one of Zeek's")
        elif not token:
            sink.bad(number, line, "empty indicator")
        elif kind == "Intel::URL":
            urls.append((number, token))
        else:
            tokens.append(token)
            numbers.append(number)
    sink.tokens(tokens, numbers)
    for number, token in urls:
        sink.add(_url(token), number, token)
