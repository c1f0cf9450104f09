"""The station's configuration: one TOML file, every key known, every value checked.

department = "vigie.mondepartement.fr"
image = "/srv/vigie/vigie-cm4-1.0.0.img"
port = "/dev/ttyUSB0"
register = "/srv/vigie/register.jsonl"
operator_key = "/srv/vigie/operator.key"
state = "/srv/vigie/station"
"""

from __future__ import annotations

import dataclasses
import tomllib
import types
import typing
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from vigie.contract.bench import LOT
from vigie.contract.identity import MODEL, SERIAL
from vigie_provisioning.errors import ConfigError
from vigie_provisioning.files import read_bounded

DEFAULT_FILE: Final = Path("/etc/vigie-department/station.toml")
_CONFIG_MAX: Final = 64 * 1024


@dataclass(slots=True, frozen=True)
class StationConfig:
    """What a station is told.

    image: of `make image`, with its digest beside it, or `digest`. port: of the serial adapter. usb: place of the USB
    connector (`1-2.3`), "" for any: needed when two stations share a machine. state: jobs, logs, labels; stations of
    one machine share it. lot, model: of the boxes. serial_prefix: a serial number is this and the processor's number.
    page: address on the label. rpiboot, print, power: argv lists; rpiboot gets `-p PLACE`, print the PDF's path, power
    `on` or `off`; empty: rpiboot runs elsewhere, nobody prints, a person switches. boot_s: until a board that was
    switched on must have spoken. again_s, patience_s: of the serial line.
    """

    department: str
    image: Path
    port: str
    register: Path
    operator_key: Path
    state: Path
    operator: str = ""
    digest: str = ""
    usb: str = ""
    lot: str = ""
    model: str = "vigie-cm4"
    serial_prefix: str = "VG-"
    page: str = "http://vigie.local/"
    rpiboot: tuple[str, ...] = ("rpiboot", "-d", "mass-storage-gadget64")
    print: tuple[str, ...] = ()
    power: tuple[str, ...] = ()
    boot_s: float = 180.0
    again_s: float = 2.0
    patience_s: float = 30.0


_TIMES: Final = ("boot_s", "again_s", "patience_s")


def load(path: Path | None, given: dict[str, Any]) -> StationConfig:
    """The file, and what the command line says over it. ConfigError names what is wrong.

    path: None takes the default file if it is there. given: fields by name, None where the command line is silent.
    """
    data: dict[str, Any] = {}
    if path is not None or DEFAULT_FILE.exists():
        path = path or DEFAULT_FILE
        try:
            data = tomllib.loads(read_bounded(path, _CONFIG_MAX).decode("utf-8"))
        except (tomllib.TOMLDecodeError, UnicodeDecodeError) as e:
            raise ConfigError(f"{path}: not TOML ({e})") from e
    data |= {name: value for name, value in given.items() if value is not None}
    where = path or "command line"
    fields = {field.name: field for field in dataclasses.fields(StationConfig)}
    for name in data:
        if name not in fields:
            raise ConfigError(f"{where}: `{name}` is not known; known are {', '.join(sorted(fields))}")
    missing = [n for n, f in fields.items() if f.default is dataclasses.MISSING and n not in data]
    if missing:
        raise ConfigError(f"{where}: {', '.join(missing)} missing; say it in the file or as --{missing[0]}")
    hints = typing.get_type_hints(StationConfig)
    return _checked(StationConfig(**{n: _value(n, data[n], hints[n], where) for n in data}), where)


def _value(name: str, value: Any, hint: Any, where: Path | str) -> Any:
    if hint is Path and isinstance(value, str | Path):
        return Path(value)
    if hint is str and isinstance(value, str):
        return value
    if hint is float and isinstance(value, int | float) and not isinstance(value, bool):
        return float(value)
    if (
        isinstance(hint, types.GenericAlias)
        and isinstance(value, list | tuple)
        and all(isinstance(w, str) for w in value)
    ):
        return tuple(value)
    raise ConfigError(f"{where}: `{name}` = {value!r} is of the wrong kind")


def _checked(config: StationConfig, where: Path | str) -> StationConfig:
    for name in _TIMES:
        if not 0.01 <= getattr(config, name) <= 3600:
            raise ConfigError(f"{where}: `{name}`: 0.01 to 3600 seconds are expected")
    if MODEL.fullmatch(config.model) is None or LOT.fullmatch(config.lot) is None:
        raise ConfigError(f"{where}: model `{config.model}`, lot `{config.lot}`: letters, digits and `-` are expected")
    if SERIAL.fullmatch(config.serial_prefix + "00000000-99") is None:
        raise ConfigError(f"{where}: serial_prefix `{config.serial_prefix}` makes no serial numbers")
    if not config.page.startswith("http://") or len(config.page) > 60:
        raise ConfigError(f"{where}: page `{config.page}`: an address such as http://vigie.local/ is expected")
    return config
