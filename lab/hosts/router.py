"""The ISP box: a switch (cable to the box, Wi-Fi), NAT for IPv4, routed IPv6; DHCP, RA and DNS by dnsmasq."""

from __future__ import annotations

from lab import plan
from lab.netns import Namespace, Process, World

BRIDGE = "br-lan"

RULES = f"""
table ip isp {{
  chain in {{
    type nat hook prerouting priority dstnat;
    iifname "wan" tcp dport {plan.FORWARDED} dnat to {plan.host4("pc")}
    iifname "wan" tcp dport {plan.UNUSED} dnat to {plan.host4("pc")}
  }}
  chain out {{
    type nat hook postrouting priority srcnat;
    oifname "wan" masquerade
  }}
}}
"""


def build_router(world: World, internet: Namespace, offload: bool) -> Namespace:
    router = world.namespace("router")
    router.sysctl("net/ipv4/ip_forward", 1)
    router.sysctl("net/ipv6/conf/all/forwarding", 1)
    router.bridge(BRIDGE)
    router.ip("link", "set", BRIDGE, "address", plan.MACS["router"])
    router.address(BRIDGE, f"{plan.GATEWAY4}/24", f"{plan.GATEWAY6}/64")
    world.cable(router, "wan", internet, "eth0")
    router.address("wan", f"{plan.WAN4}/30", f"{plan.WAN6}/64")
    internet.address("eth0", f"{plan.WAN4_PEER}/30", f"{plan.WAN6_PEER}/64")
    router.route("default", "via", plan.WAN4_PEER)
    router.route("default", "via", plan.WAN6_PEER)
    internet.route(plan.LAN6, "via", plan.WAN6)
    for end, link in ((router, "wan"), (internet, "eth0")):
        end.offload(link, offload)
    rules = world.temp / "router.nft"
    rules.write_text(RULES)
    router.run("nft", "-f", str(rules)).require()
    return router


def start_dnsmasq(router: Namespace) -> Process:
    """After the links: dnsmasq answers the first router solicitation at once."""
    folder = router.world.temp
    configuration = folder / "router.dnsmasq.conf"
    configuration.write_text(
        f"""
keep-in-foreground
user=root
group=root
pid-file={folder}/dnsmasq.pid
log-facility=-
interface={BRIDGE}
except-interface=lo
bind-interfaces
no-resolv
no-hosts
server={plan.RESOLVER.v4}
cache-size=0
edns-packet-max=1232
dhcp-range=192.168.1.100,192.168.1.150,255.255.255.0,1h
dhcp-authoritative
no-ping
dhcp-host={plan.MACS["box"]},{plan.BOX4}
dhcp-leasefile={folder}/dnsmasq.leases
dhcp-option=option:dns-server,{plan.GATEWAY4}
enable-ra
dhcp-range={plan.LAN6_PREFIX}:,ra-stateless,64,1h
ra-param={BRIDGE},5,1800
dhcp-option=option6:dns-server,[{plan.GATEWAY6}]
"""
    )
    process = router.start("dnsmasq", "dnsmasq", f"--conf-file={configuration}")
    process.wait_for_line("started")
    return process
