"""Whom nginx counts as one caller."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.support import department
from vigie_department.broker.nginx import configuration
from vigie_department.broker.plan import web_plan


def peer(config: str, address: str) -> str:
    """What nginx's map makes of an address: the first expression that fits, else the address."""
    block = config.split("map $remote_addr $vigie_peer {", 1)[1].split("}\n", 1)[0]
    rules = re.findall(r'^\s*"~(\S+)" (\S+);$', block, re.MULTILINE)
    assert len(rules) == 3, block
    for expression, value in rules:
        found = re.search(expression.replace("(?<", "(?P<"), address)
        if found:
            name = re.sub(r"\W", "", value)
            return str(value.strip('"').replace("${" + name + "}", found[name]).replace("$" + name, found[name]))
    return address


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ("192.0.2.7", "192.0.2.8", False),
        ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2:ffff:4:5:6", True),
        ("2001:db8:1:2::6", "2001:db8:1:2:3:4:5:6", True),
        ("2001:db8:1:2:3:4:5:6", "2001:db8:1:3:3:4:5:6", False),
        # the same subscriber's addresses when the second half of its prefix is zeros
        ("2001:db8::a:b:c:d", "2001:db8::1", True),
        ("2001:db8::a:b:c:d", "2001:db8::b:b:c:d", True),
        ("2001:db8:7::1", "2001:db8:8::1", False),
        ("2001:db8:7::1", "2001:db8:7::2:1", True),
    ],
)
def test_one_subscriber_is_one_caller(tmp_path: Path, one: str, other: str, same: bool) -> None:
    config = configuration(web_plan(department.write(tmp_path)))
    assert (peer(config, one) == peer(config, other)) is same, (peer(config, one), peer(config, other))
