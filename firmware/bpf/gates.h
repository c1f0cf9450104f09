/* SPDX-License-Identifier: GPL-2.0-only */
/* What is settled before policy: gates 1 to 9 of docs/datapath.md, and who opened a flow. */
#pragma once
#include "links.h"
#include "loop.h"

/* Frames that look the cache up: with ports, and not ICMP that belongs to no exchange. */
static __always_inline int cacheable(const struct pkt *p)
{
	if (!p->ports_ok || p->fragment == LATER_FRAGMENT)
		return 0;
	if (p->proto == (p->family == 6 ? PROTO_ICMP6 : PROTO_ICMP))
		return icmp_is_echo(p->family, p->sport);
	return 1;
}

/* Port (INIT_PORT0/1) that opened the flow, or INIT_UNKNOWN. Sets p->recalled when memory says it was the receiver. */
static __always_inline __u32 find_opener(struct pkt *p, const struct control *c, const struct flow *f)
{
	__u32 sender = p->port + 1, receiver = 2 - p->port;
	int icmp = p->proto == (p->family == 6 ? PROTO_ICMP6 : PROTO_ICMP);
	if (bare_syn(p))
		return sender;
	if (f && flow_opener(f->flags))
		return flow_opener(f->flags);
	if (cacheable(p)) {
		__u32 opener = opener_recall(opener_hash(&p->key, c->flow_seed), p->now_s, p->proto == PROTO_TCP ? KNOWN_TCP_S : KNOWN_S);
		p->recalled = opener == receiver;
		if (opener)
			return opener;
	}
	if (p->proto == PROTO_TCP)
		return p->ports_ok && (p->tcp_flags & (TCP_SYN | TCP_ACK)) == (TCP_SYN | TCP_ACK) ? receiver : INIT_UNKNOWN;
	if (icmp && (!p->ports_ok || icmp_is_error(p->family, p->sport) || p->sport == (p->family == 6 ? 129 : 0)))
		return INIT_UNKNOWN;
	return sender;
}

/* Gate 6: may this packet reach the box itself? */
static __always_inline int for_box(struct pkt *p, const struct control *c)
{
	struct flow_key k = { .a = p->dst, .b = p->src, .pa = p->key.pa, .pb = p->key.pb, .proto = p->proto,
			      .family = p->family, .vlan = 0xffff };
	int icmp = p->proto == (p->family == 6 ? PROTO_ICMP6 : PROTO_ICMP);

	if (p->port) {	/* key.a is the end behind port 0: here the box's */
		k.pa = p->key.pa;
		k.pb = p->key.pb;
	} else {
		k.pa = p->key.pb;
		k.pb = p->key.pa;
	}
	if (bpf_map_lookup_elem(&own, &k))
		return 1;
	if (!p->ports_ok)
		return 0;
	if (p->family == 6 && icmp && icmp6_is_local(p))
		return 1;
	if (p->proto == PROTO_UDP && ((p->sport == 67 && p->dport == 68) ||
				      (p->sport == 547 && p->dport == 546 && link_local(&p->src, p->family))))
		return 1;
	if (icmp && icmp_is_error(p->family, p->sport))
		return 1;
	if (c->wan_port < 0 || (__s32)p->port == c->wan_port || !on_link(c, &p->src, p->family))
		return 0;
	if (icmp && p->sport == (p->family == 6 ? 128 : 8))
		return 1;
	for (__u32 i = 0; i < BOX_PORT_MAX; i++) {
		if (i >= c->box_port_count)
			break;
		if (c->box_port[i].proto == p->proto && c->box_port[i].port == p->dport)
			return 1;
	}
	return 0;
}

static __always_inline int arp_claims_box(struct __sk_buff *skb, const struct pkt *p, const struct control *c)
{
	struct addr sender;
	__be32 spa;
	if (bpf_skb_load_bytes(skb, p->l3 + 14, &spa, 4))
		return 0;
	addr_from4(&sender, spa);
	return is_box_address(c, &sender);
}

/* Gates 1 to 9: 1 when settled. */
__noinline int gates(struct __sk_buff *skb)
{
	struct work *w = scratch();
	struct control *c = settings();
	struct state *st = shared_state();
	if (!w || !c || !st)
		return 1;
	struct pkt *p = &w->p;
	__u64 box = *(const __u64 *)c->box_mac;
	int kind = parse(skb, p);

	if (kind == PARSED_SHORT)
		return settle(p, V_PASS, R_SHORT_FRAME);
	if (box && p->smac == box) {
		enum probe_path path = kind == PARSED_OTHER ? own_probe(skb, p, c) : PROBE_NONE;
		settle(p, V_DROP, path == PROBE_NONE ? R_SPOOF : R_LOOP);
		if (path == PROBE_ROUND) {
			loop_seen(p, st);
			event_packet(skb, E_PROBE, p->l3);
		}
		return 1;
	}
	flood_watch(skb, p);
	if (loop_stops(p, c, st, box))
		return settle(p, V_DROP, R_LOOP);
	learn_mac(p, st);
	if (p->moved)
		event_name(E_MAC_MOVED);
	if (p->anomaly == R_VLAN_DEPTH)
		return settle(p, V_DROP, R_VLAN_DEPTH);
	if (kind == PARSED_OTHER) {
		if (p->sport == TYPE_ARP && !p->anomaly && arp_claims_box(skb, p, c))
			return settle(p, V_DROP, R_SPOOF);
		settle(p, V_PASS, R_NOT_IP);
		if (p->sport == TYPE_ARP)
			event_packet(skb, E_NEIGHBOUR, p->l3);
		return 1;
	}
	p->side = c->wan_port < 0 ? SIDE_UNKNOWN : (__s32)p->port == c->wan_port ? SIDE_IN : SIDE_OUT;
	if (is_box_address(c, &p->src))
		return settle(p, V_DROP, R_SPOOF);
	if ((box && p->dmac == box) || is_box_address(c, &p->dst)) {
		if (for_box(p, c))
			return settle(p, V_PASS, R_OWN);
		return settle(p, V_DROP, R_NOT_FOR_BOX);
	}
	if (is_multicast(&p->dst, p->family)) {
		settle(p, V_PASS, R_MULTICAST);
		if (p->proto == PROTO_ICMP6 && p->family == 6 && p->ports_ok && p->sport == 134)
			event_packet(skb, E_ROUTER, p->l4);
		else if (p->proto == PROTO_ICMP6 && p->family == 6 && p->ports_ok && (p->sport == 135 || p->sport == 136))
			event_packet(skb, E_NEIGHBOUR, p->l4);
		else if (is_dhcp(p))
			event_packet(skb, E_DHCP, p->payload);
		else if (p->proto == PROTO_UDP && p->ports_ok &&
			 (p->dport == 5353 || p->dport == 1900 || p->dport == 3702 || p->dport == 5355))
			event_packet(skb, E_DISCOVERY, p->payload);
		return 1;
	}
	if (is_bad_source(&p->src, p->family))
		return settle(p, V_DROP, R_BAD_SOURCE);
	if (p->family == 6 && p->proto == PROTO_ICMP6 && p->ports_ok && icmp6_is_local(p) &&
	    !(p->side == SIDE_OUT && !on_link(c, &p->dst, 6))) {
		settle(p, V_PASS, R_LOCAL);
		if (p->sport == 134)
			event_packet(skb, E_ROUTER, p->l4);
		else if (p->sport == 135 || p->sport == 136)
			event_packet(skb, E_NEIGHBOUR, p->l4);
		return 1;
	}
	if (p->side != SIDE_UNKNOWN) {
		/* Both ends on the wrong side: the cables have just been exchanged, or somebody pretends so. */
		int wrong = p->side == SIDE_IN
			? in_link_prefix(c, &p->src) && !on_link(c, &p->dst, p->family) && !is_gateway_mac(c, p->smac)
			: in_link_prefix(c, &p->dst) && !on_link(c, &p->src, p->family);
		if (wrong)
			p->side = SIDE_UNKNOWN;
	}
	if (p->side != SIDE_UNKNOWN) {
		const struct addr *remote = remote_of(p);
		p->local = on_link(c, remote, p->family);
		if (p->local && p->side == SIDE_IN && is_gateway_mac(c, p->smac) &&
		    !(p->family == 6 && link_local(remote, 6)) && !is_gateway_address(c, remote))
			p->local = 0;
	}
	return 0;
}
