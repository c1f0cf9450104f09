"""Proves that what was asked of Kconfig is what came out. Kconfig drops an unknown symbol, or one whose dependency is
missing, without a word; this names each, with the file and line that asked for it.

scripts/check_options.py CONFIG FILE...          FILEs (defconfig, fragments, *.expect) against one .config
scripts/check_options.py --output DIR FILE...    the same for a Buildroot output folder's .config; when the kernel (and
                                                 BusyBox) are configured there, their fragments against their .config
                  --built                        with --output: a kernel that is not configured is an error
"""

from __future__ import annotations

import argparse
import dataclasses
import re
import shlex
import sys
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Final

if __package__ in (None, ""):
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from scripts.buildroot import KERNEL_EXPECT, ROOT, ImageError

_SET: Final = re.compile(r"^([A-Z][A-Za-z0-9_]*)=(.*)$")
_NOT_SET: Final = re.compile(r"^# ([A-Z][A-Za-z0-9_]*) is not set$")


@dataclasses.dataclass(frozen=True, slots=True)
class Asked:
    """One line of a defconfig or fragment. `value` as Kconfig writes it: y, m, n, a number, or a quoted string."""

    symbol: str
    value: str
    file: Path
    line: int


@dataclasses.dataclass(frozen=True, slots=True)
class Lost:
    """What was asked, and what the configuration has instead (None: the symbol is not in it)."""

    asked: Asked
    found: str | None

    def __str__(self) -> str:
        found = "is not there (unknown, or what it depends on is off)" if self.found is None else f"is {self.found}"
        return f"{_short(self.asked.file)}:{self.asked.line}: {self.asked.symbol}={self.asked.value} {found}"


def asked(path: Path) -> list[Asked]:
    """The lines of a file, in order; comments and empty lines left out. ImageError for a line that is neither."""
    found: list[Asked] = []
    for number, line in enumerate(path.read_text().splitlines(), 1):
        if match := _SET.match(line):
            found.append(Asked(match[1], match[2].strip(), path, number))
        elif match := _NOT_SET.match(line):
            found.append(Asked(match[1], "n", path, number))
        elif line.strip() and not line.startswith("#"):
            raise ImageError(f"{_short(path)}:{number}: not a line of Kconfig: {line!r}")
    return found


def configuration(text: str) -> dict[str, str]:
    """Symbol -> value of a .config; what is "not set" is n."""
    values: dict[str, str] = {}
    for line in text.splitlines():
        if match := _SET.match(line):
            values[match[1]] = match[2].strip()
        elif match := _NOT_SET.match(line):
            values[match[1]] = "n"
    return values


def lost(wanted: Iterable[Asked], values: Mapping[str, str]) -> list[Lost]:
    """What did not survive. Of two lines for one symbol the later one counts, as it does for Kconfig."""
    last = {one.symbol: one for one in wanted}
    return [
        Lost(one, values.get(one.symbol)) for one in last.values() if values.get(one.symbol, _absent(one)) != one.value
    ]


def _absent(one: Asked) -> str | None:
    """A symbol that is not there is off, which is what "not set" asked for."""
    return "n" if one.value == "n" else None


def files_named(values: Mapping[str, str], symbol: str, checkout: Path | None = None) -> list[Path]:
    """The files in a string option, with the external tree's path put in; relative ones are Buildroot's own."""
    text = values.get(symbol, "").strip('"').replace("$(BR2_EXTERNAL_VIGIE_PATH)", str(ROOT))
    paths = [Path(word) for word in shlex.split(text)]
    return [path if path.is_absolute() or checkout is None else checkout / path for path in paths]


def check(config: Path, files: Sequence[Path]) -> list[Lost]:
    """One .config against files; ImageError when the .config is missing."""
    if not config.is_file():
        raise ImageError(f"{config}: not there; nothing was configured")
    return lost([line for file in files for line in asked(file)], configuration(config.read_text()))


def check_output(output: Path, files: Sequence[Path], *, built: bool) -> tuple[list[Lost], int]:
    """A Buildroot output folder: its own options, the kernel's and BusyBox's. -> what is lost, how many were asked."""
    found = check(output / ".config", files)
    values = configuration((output / ".config").read_text())
    count = sum(len(asked(file)) for file in files)
    for pattern, symbol, more in (
        ("linux-*", "BR2_LINUX_KERNEL_CONFIG_FRAGMENT_FILES", [KERNEL_EXPECT]),
        ("busybox-*", "BR2_PACKAGE_BUSYBOX_CONFIG_FRAGMENT_FILES", []),
    ):
        fragments = [*files_named(values, symbol), *more]
        configs = [
            path / ".config"
            for path in sorted((output / "build").glob(pattern))
            if (path / ".stamp_kconfig_fixup_done").exists()
        ]
        if not configs and built:
            raise ImageError(f"{output}/build: no configured {pattern} there, although the build is said to be done")
        for config in configs:
            found += check(config, fragments)
            count += sum(len(asked(file)) for file in fragments)
    return found, count


def _short(path: Path) -> str:
    return str(path.relative_to(ROOT)) if path.is_relative_to(ROOT) else str(path)


def main(argv: Sequence[str] | None = None) -> int:
    """Exit code: 0 all survived, 1 some did not, 2 could not look."""
    parser = argparse.ArgumentParser(description="what was asked of Kconfig against what came out")
    parser.add_argument("--output", type=Path, metavar="DIR", help="a Buildroot output folder")
    parser.add_argument("--built", action="store_true", help="the kernel must be configured there")
    parser.add_argument("files", nargs="+", type=Path, metavar="FILE")
    arguments = parser.parse_args(argv)
    try:
        if arguments.output:
            found, count = check_output(arguments.output, arguments.files, built=arguments.built)
        else:
            config, *files = arguments.files
            found, count = check(config, files), sum(len(asked(file)) for file in files)
    except (ImageError, OSError) as e:
        print(f"check_options: {e}", file=sys.stderr)
        return 2
    for one in found:
        print(f"lost: {one}", file=sys.stderr)
    print(f"{count - len(found)} of {count} options in force")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
