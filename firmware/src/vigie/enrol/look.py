"""What the box sees of its own network before it bothers anybody: cable, address, name of the authority."""

from __future__ import annotations

import ipaddress
import socket
from typing import Protocol

from vigie.enrol import events as on
from vigie.enrol.codes import Code
from vigie.enrol.events import Event, Failed
from vigie.errors import LinkError
from vigie.host.boxconfig import BoxConfig
from vigie.host.net import Interface, Link


class Network(Protocol):
    """The part of `vigie.host.net.Net` that is needed."""

    def link(self, name: str) -> Link:
        """The device of this name. LinkError when there is none."""

    def addresses(self, ifindex: int) -> list[Interface]:
        """Addresses with their prefixes."""


def usable(addresses: list[Interface]) -> bool:
    """An address that reaches beyond the link: link-local ones (IPv4 and IPv6) are what a box has without DHCP."""
    return any(not a.ip.is_link_local for a in addresses)


def look(config: BoxConfig, network: Network) -> Event:
    """Clear, or the first thing that is missing."""
    try:
        link = network.link(config.bridge)
        if not link.carrier:
            return Failed(Code.NO_LINK, f"{config.bridge}: no port has a carrier")
        if not usable(network.addresses(link.index)):
            return Failed(Code.NO_ADDRESS, f"{config.bridge}: no address beyond link-local")
    except LinkError as e:
        return Failed(Code.NO_LINK, str(e))
    return _name(config)


def _name(config: BoxConfig) -> Event:
    host = config.enrol_host
    if config.proxy or host in config.addresses:
        return on.Clear()  # the proxy asks DNS, or nobody does
    try:
        found = socket.getaddrinfo(host, config.ports.https, type=socket.SOCK_STREAM)
    except OSError as e:
        return Failed(Code.NO_DNS, f"{host}: {e.strerror or e}")
    if all(ipaddress.ip_address(str(entry[4][0]).partition("%")[0]).is_unspecified for entry in found):
        return Failed(Code.NO_DNS, f"{host}: the resolver answers with an address that is none")
    return on.Clear()
