"""Who has which address. One town hall, its ISP box, the internet.

    pc .10   camera .11   printer .12   phone .13   tv .14
       \\________\\____|_________/__________/
                 [ lan: switch sw0 ]
                        |
                 [ box: lan0 br0 wan0 ]  .2
                        |
         wifi .60 -- [ router: br-lan ] .1 -- NAT -- 90.63.12.2
                        |
                 [ internet: servers on addresses of lo ] 90.63.12.1
                        |
                 [ dept: the department's servers ] 193.51.24.40

The addresses of servers are real unicast ones (a French research network's, not listed by any feed at hand):
documentation ranges are special to the base and would not be judged like the rest. Nothing here can reach the
machine's own network.
"""

from __future__ import annotations

from dataclasses import dataclass, field

LAN4 = "192.168.1.0/24"
LAN6_PREFIX = "2a01:cb08:8f00:1200:"
LAN6 = f"{LAN6_PREFIX}:/64"
GATEWAY4 = "192.168.1.1"
GATEWAY6 = f"{LAN6_PREFIX}:1"
BOX4 = "192.168.1.2"
BOX6 = f"{LAN6_PREFIX}:2"

WAN4, WAN4_PEER = "90.63.12.2", "90.63.12.1"
WAN6, WAN6_PEER = "2a01:cb08:8f00:ff::2", "2a01:cb08:8f00:ff::1"

HOSTS = {"pc": 10, "camera": 11, "printer": 12, "phone": 13, "tv": 14, "wifi": 60}
MACS = {
    "pc": "3c:52:82:00:00:10",
    "camera": "44:19:b6:00:00:11",
    "printer": "00:26:73:00:00:12",
    "phone": "80:5e:c0:00:00:13",
    "tv": "38:f8:b7:00:00:14",
    "wifi": "f4:5c:89:00:00:60",
    "router": "a4:3e:51:00:00:01",
    "box": "d8:3a:dd:00:00:02",
}


def host4(name: str) -> str:
    return f"192.168.1.{HOSTS[name]}"


def host6(name: str) -> str:
    return f"{LAN6_PREFIX}:{HOSTS[name]}"


@dataclass(frozen=True, slots=True)
class Site:
    """A server: its names and its addresses."""

    name: str
    v4: str
    v6: str
    aliases: tuple[str, ...] = ()

    @property
    def names(self) -> tuple[str, ...]:
        return (self.name, *self.aliases)


RESOLVER = Site("resolveur.fai.example", "80.10.246.2", "2001:660:7c00:1::53")
TOWN = Site("www.commune.example", "193.51.24.10", "2001:660:7c00:1::10", ("agenda.commune.example",))
TAX = Site("www.impots.gouv.fr", "193.51.24.11", "2001:660:7c00:1::11")
CLOUD = Site("nuage.example", "193.51.24.20", "2001:660:7c00:1::20", ("telemetrie.nuage.example",))
SIP = Site("sip.operateur.example", "193.51.24.30", "2001:660:7c00:1::30")
SCANNER = Site("scanner.example", "193.51.24.66", "2001:660:7c00:1::66")
# Clean addresses under names that are not: only the name can tell.
HIDDEN = Site("cache.example", "193.51.24.80", "2001:660:7c00:1::80")
# The camera's vendor; its addresses enter the base while an upload is under way.
VENDOR = Site("video.fabricant.example", "193.51.24.90", "2001:660:7c00:1::90")

# The department: one address, four names, real servers behind it.
DOMAIN = "vigie.lab"
DEPARTMENT = Site(
    f"mqtt.{DOMAIN}",
    "193.51.24.40",
    "2001:660:7c00:1::40",
    tuple(f"{host}.{DOMAIN}" for host in ("enrol", "maj", "console")),
)
DEPT4, DEPT4_PEER = "10.66.0.2", "10.66.0.1"
DEPT6, DEPT6_PEER = "fd66::2", "fd66::1"
MQTTS = 8883
# Released by the department during the scenario: in no feed.
CENTRAL = Site("central.example", "193.51.24.120", "2001:660:7c00:1::120")
RELEASED = Site("nouveau.example", "193.51.24.121", "2001:660:7c00:1::121")

HTTP, HTTPS, DNS, SIP_PORT, ECHO, SINK, IPERF = 80, 443, 53, 5060, 7007, 8443, 5201
FORWARDED = 8080
UNUSED = 3389


@dataclass(frozen=True, slots=True)
class Indicators:
    """What the scenario takes from the base: real entries of real feeds."""

    toxic4: str
    toxic6: str
    toxic_names: tuple[str, ...]
    abroad: Site = field(default=Site("camera-cloud.example", "1.12.0.10", "240e::10"))

    @property
    def sites(self) -> tuple[Site, ...]:
        hidden = Site(HIDDEN.name, HIDDEN.v4, HIDDEN.v6, self.toxic_names)
        toxic = Site("bad-address.example", self.toxic4, self.toxic6)
        return (RESOLVER, TOWN, TAX, CLOUD, SIP, SCANNER, hidden, VENDOR, toxic, self.abroad, CENTRAL, RELEASED)

    def zone(self) -> dict[str, list[str]]:
        """Name -> addresses of the internet's own servers."""
        return {name: [site.v4, site.v6] for site in self.sites for name in site.names}

    def public_names(self) -> dict[str, list[str]]:
        """Name -> addresses, for the internet's DNS server: the department's too."""
        return self.zone() | {name: [DEPARTMENT.v4, DEPARTMENT.v6] for name in DEPARTMENT.names}


# For a lab without the product: nothing is listed, the names only have to exist.
PLAIN_INDICATORS = Indicators("193.51.24.101", "2001:660:7c00:1::101", ("toxic-name.example",))
