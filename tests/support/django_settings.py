"""Settings for type checking: the same as in service, for a department that is nowhere."""

from pathlib import Path

from vigie_department import config
from vigie_department.console import setup

globals().update(setup.build(config.from_table({"domain": "vigie.lab"}, Path("department.toml")), "-" * 50))
