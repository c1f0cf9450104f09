"""Django's settings, built by `setup` from what `VIGIE_DEPARTMENT_CONFIG` names (or Debian's place)."""

from vigie_department import config as _configuration
from vigie_department.console import setup as _setup

_config = _configuration.load()
globals().update(_setup.build(_config, _setup.secret(_config)))
