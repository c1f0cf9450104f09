/* SPDX-License-Identifier: GPL-2.0-only */
/* The layers of docs/datapath.md, in their order. Each works on the packet in the scratch area. */
#pragma once
#include "names.h"

static __always_inline __u64 be64(__u64 wire) { return bpf_be64_to_cpu(wire); }

/* Class row of an address in the base in force; 0 not listed. */
static __always_inline __u64 address_class(struct pkt *p, const struct addr *a)
{
	__u64 row = p->family == 4 ? base_class4(base_slot(p->gen), bpf_ntohl(a->w[3]))
				   : base_class6(base_slot(p->gen), be64(a->q[0]), be64(a->q[1]));
	if (row == NO_BASE) {
		count(C_NO_BASE, 1, 0);
		return 0;
	}
	return row;
}

static __always_inline int in_prefix(const struct addr *a, const struct prefix *n)
{
	return (a->q[0] & n->mask.q[0]) == n->net.q[0] && (a->q[1] & n->mask.q[1]) == n->net.q[1];
}

static __always_inline int link_local(const struct addr *a, __u8 family)
{
	return family == 4 ? a->b[12] == 169 && a->b[13] == 254 : a->b[0] == 0xfe && (a->b[1] & 0xc0) == 0x80;
}

/* Inside one of the link's configured prefixes. */
static __always_inline int in_link_prefix(const struct control *c, const struct addr *a)
{
	for (__u32 i = 0; i < ONLINK_MAX; i++) {
		if (i >= c->onlink_count)
			break;
		if (in_prefix(a, &c->onlink[i]))
			return 1;
	}
	return 0;
}

static __always_inline int on_link(const struct control *c, const struct addr *a, __u8 family)
{
	return link_local(a, family) || in_link_prefix(c, a);
}

static __always_inline int is_gateway_mac(const struct control *c, __u64 mac)
{
	return mac && (mac == *(const __u64 *)c->gw_mac[0] || mac == *(const __u64 *)c->gw_mac[1]);
}

static __always_inline int is_gateway_address(const struct control *c, const struct addr *a)
{
	for (__u32 i = 0; i < GATEWAY_MAX; i++) {
		if (i >= c->gateway_count)
			break;
		if (addr_equal(a, &c->gateway[i]))
			return 1;
	}
	return 0;
}

static __always_inline int is_box_address(const struct control *c, const struct addr *a)
{
	for (__u32 i = 0; i < BOX_ADDR_MAX; i++) {
		if (i >= c->box_addr_count)
			break;
		if (addr_equal(a, &c->box_addr[i]))
			return 1;
	}
	return 0;
}

static __always_inline int is_multicast(const struct addr *a, __u8 family)
{
	if (family == 6)
		return a->b[0] == 0xff;
	return (a->b[12] & 0xf0) == 0xe0 || a->w[3] == 0xffffffff;
}

static __always_inline int is_bad_source(const struct addr *a, __u8 family)
{
	if (is_multicast(a, family))
		return 1;
	if (family == 4)
		return a->b[12] == 127 || a->w[3] == 0;
	return a->q[0] == 0 && (a->q[1] == 0 || a->q[1] == bpf_cpu_to_be64(1));
}

static __always_inline __u64 device_mac(const struct pkt *p)
{
	return p->side == SIDE_IN ? p->dmac : p->smac;
}

static __always_inline const struct addr *remote_of(const struct pkt *p)
{
	return p->side == SIDE_IN ? &p->src : &p->dst;
}

static __always_inline __u16 remote_port(const struct pkt *p)
{
	return p->side == SIDE_IN ? p->sport : p->dport;
}

/* The port that names the service, whoever opened. */
static __always_inline __u16 service_port(const struct pkt *p)
{
	int at_device = p->opener == 2;
	if (p->proto != PROTO_TCP && p->proto != PROTO_UDP)
		return 0;
	return (p->side == SIDE_IN) != at_device ? p->sport : p->dport;
}

static __always_inline int is_dhcp(const struct pkt *p)
{
	return p->proto == PROTO_UDP && p->ports_ok &&
	       (((p->sport == 67 || p->sport == 68) && (p->dport == 67 || p->dport == 68)) ||
		((p->sport == 546 || p->sport == 547) && (p->dport == 546 || p->dport == 547)));
}

static __always_inline int bare_syn(const struct pkt *p)
{
	return p->proto == PROTO_TCP && p->ports_ok && (p->tcp_flags & (TCP_SYN | TCP_ACK)) == TCP_SYN;
}

static __always_inline int settle(struct pkt *p, __u8 verdict, __u8 reason)
{
	p->verdict = verdict;
	p->reason = reason;
	return 1;
}

/* Layer 1. Rank of what is asked for, 0 when not essential. */
static __always_inline void better_rank(struct pkt *p, __u32 rank)
{
	if (rank && (!p->rank || rank < p->rank))
		p->rank = rank;
}

/* Layers 1 to 5: 1 when settled. p->local says that only quarantine applies. */
__noinline int layers_address(void)
{
	struct work *w = scratch();
	struct control *c = settings();
	if (!w || !c)
		return 0;
	struct pkt *p = &w->p;
	__u32 f = p->features;
	struct addr remote = *remote_of(p);
	struct mac_key dev = {};
	mac_to(dev.mac, device_mac(p));
	__u64 entry = 0;

	if (!p->local) {
		entry = address_class(p, &remote);
		p->rank = class_rank(entry);
		struct resolved_value *r = 0;
		if (f & F_RESOLVED) {
			r = bpf_map_lookup_elem(&resolved, &remote);
			if (r && !in_force(p, r->until_s))
				r = 0;
		}
		if (r)
			better_rank(p, r->rank);
		if (f & F_ESSENTIAL) {
			struct essential_port_key ek = { .proto = p->proto, .port = service_port(p) };
			__u32 *rank = p->ports_ok && ek.port ? bpf_map_lookup_elem(&essential_ports, &ek) : 0;
			if (rank)
				better_rank(p, *rank);
			struct device_value *dv = bpf_map_lookup_elem(&device_class, &dev);
			if (dv)
				better_rank(p, dv->essential_rank);
		}
		if (c->isolation_level >= 2 && in_force(p, c->isolation_until)) {
			__u32 limit = c->isolation_level == 2 ? 9 : 2;
			if (!p->rank || p->rank > limit)
				return settle(p, V_REFUSE, R_ISOLATION);
		}
		if ((class_flags(entry) & CLASS_NEVER) || (r && r->never))
			p->spared = R_NEVER_BLOCK;
	}
	if (f & F_QUARANTINE) {
		__u32 *until = bpf_map_lookup_elem(&quarantine, &dev);
		if (until && in_force(p, *until) && !(p->local && is_dhcp(p)))
			return settle(p, V_REFUSE, R_QUARANTINE);
	}
	if (p->local)
		return 0;

	if (f & F_EXCEPTIONS) {
		struct exception_key k = { .prefixlen = 224 };
		__builtin_memcpy(k.mac, dev.mac, 6);
		k.addr = remote;
		__u16 service = service_port(p);
		for (int i = 0; i < 2; i++) {
			struct exception_value *v = bpf_map_lookup_elem(&exceptions, &k);
			if (v && in_force(p, v->until_s) && (!v->proto || v->proto == p->proto) &&
			    (!v->port || (p->ports_ok && v->port == service))) {
				if (v->action == A_BLOCK)
					return settle(p, V_REFUSE, R_EXCEPTION_BLOCK);
				if (v->action == A_ALLOW || v->action == A_OBSERVE) {
					p->spared = R_EXCEPTION;
					if (v->action == A_OBSERVE && !p->observed)
						p->observed = R_EXCEPTION;
					break;
				}
			}
			__builtin_memset(k.mac, 0, 6);
		}
	}
	if (p->spared)
		return 0;

	if (!entry && p->side == SIDE_UNKNOWN) {
		entry = address_class(p, &p->src);
		if (entry) {
			if (class_flags(entry) & CLASS_NEVER)
				return 0;
			remote = p->src;
		}
	}
	__u8 action = class_action(entry), direction = class_direction(entry);
	if (action != A_BLOCK && action != A_OBSERVE)
		return 0;
	/* what leaves counts as opened here unless the internet is known to have opened it */
	int opener = !p->opener && p->side == SIDE_OUT ? 1 : p->opener;
	if ((direction == D_OUT && opener != 1) || (direction == D_IN && opener != 2))
		return 0;
	if (class_flags(entry) & CLASS_PORTS) {
		__u16 port = addr_equal(&remote, &p->src) ? p->sport : p->dport;
		if (!p->ports_ok || (p->proto != PROTO_TCP && p->proto != PROTO_UDP))
			return 0;
		if (p->family == 4 ? !base_port4(base_slot(p->gen), bpf_ntohl(remote.w[3]), port)
				   : !base_port6(base_slot(p->gen), be64(remote.q[0]), be64(remote.q[1]), port))
			return 0;
	}
	p->class = class_number(entry);
	p->category = class_category(entry);
	if (action == A_OBSERVE) {
		if (!p->observed)
			p->observed = R_TOXIC_ADDRESS;
		return 0;
	}
	return settle(p, p->opener == 2 ? V_DROP : V_REFUSE, R_TOXIC_ADDRESS);
}

/* Layer 6 for DNS queries: 1 when settled. */
__noinline int layers_dns(struct __sk_buff *skb)
{
	struct work *w = scratch();
	if (!w)
		return 0;
	struct pkt *p = &w->p;
	__u32 offset = p->payload, len = p->payload_len;
	int got;

	if (p->proto == PROTO_UDP) {
		got = dns_question(skb, offset, len, 0);
	} else {
		if (len < 3)	/* no message yet: the two length bytes may come alone */
			return 0;
		got = dns_question(skb, offset + 2, len - 2, 0);
		if (got)	/* the length came in a segment of its own */
			got = dns_question(skb, offset, len, 0);
	}
	if (got == 1)
		p->anomaly = R_BAD_DNS;
	if (got)
		return 0;
	__u8 class = p->class, category = p->category;
	int v = name_decide();
	/* a question from the internet gets no answer: its source may be forged */
	__u8 refusal = p->proto != PROTO_UDP ? V_REFUSE : p->side == SIDE_IN && !p->local ? V_DROP : V_NXDOMAIN;
	switch (v) {
	case NAME_EXC_BLOCK:
		return settle(p, refusal, R_EXCEPTION_BLOCK);
	case NAME_BLOCK:
		return settle(p, refusal, R_TOXIC_DNS);
	case NAME_EXC_ALLOW:
		p->spared = R_EXCEPTION;
		break;
	case NAME_NEVER:
		p->spared = R_NEVER_BLOCK;
		break;
	case NAME_OBSERVE:
		if (!p->observed)
			p->observed = R_TOXIC_DNS;
		return 0;
	}
	p->class = class;
	p->category = category;
	return 0;
}

/* Layers 7 and 8. */
__noinline int layers_device(void)
{
	struct work *w = scratch();
	if (!w)
		return 0;
	struct pkt *p = &w->p;
	struct addr remote = *remote_of(p);

	if (p->features & F_CLASS_POLICY) {
		struct mac_key dev = {};
		mac_to(dev.mac, device_mac(p));
		struct device_value *dv = bpf_map_lookup_elem(&device_class, &dev);
		if (dv && dv->class) {
			__u64 geo = p->family == 4
				? geo_value4(geo_slot(p->gen), bpf_ntohl(remote.w[3]))
				: geo_value6(geo_slot(p->gen), be64(remote.q[0]), be64(remote.q[1]));
			struct class_policy_key k = { .class = dv->class, .kind = PK_AS, .value = (__u32)geo };
			__u32 *action = 0;
			if ((__u32)geo)
				action = bpf_map_lookup_elem(&class_policy, &k);
			k.kind = PK_COUNTRY;
			k.value = geo >> 32;
			if ((!action || !*action) && k.value)
				action = bpf_map_lookup_elem(&class_policy, &k);
			k.kind = PK_DEFAULT;
			k.value = 0;
			if (!action || !*action)
				action = bpf_map_lookup_elem(&class_policy, &k);
			if (action && *action == A_BLOCK)
				return settle(p, V_REFUSE, R_DEVICE_CLASS);
			if (action && *action == A_OBSERVE && !p->observed)
				p->observed = R_DEVICE_CLASS;
		}
	}
	if (p->features & F_DYNAMIC) {
		struct dynamic_key k = { .addr = remote };
		mac_to(k.mac, device_mac(p));
		for (int i = 0; i < 2; i++) {
			struct dynamic_value *v = bpf_map_lookup_elem(&dynamic, &k);
			if (v && in_force(p, v->until_s))
				return settle(p, V_REFUSE, R_DYNAMIC);
			__builtin_memset(k.mac, 0, 6);
		}
	}
	return 0;
}

/* The flow that an ICMP error quotes: known, or opened from the LAN not long ago. */
__noinline int quoted_flow_known(struct __sk_buff *skb)
{
	struct work *w = scratch();
	struct control *c = settings();
	if (!w || !c)
		return 0;
	struct pkt *p = &w->p;
	struct flow_key *k = &w->lookup;
	__be16 ports[4];
	__u32 at = p->l4 + 8;
	__u8 head[10];

	__builtin_memset(k, 0, sizeof(*k));
	/* the quoted packet left through the port that the error did not come in by: its source is the LAN's end */
	struct addr *from = p->port ? &k->a : &k->b, *to = p->port ? &k->b : &k->a;
	if (bpf_skb_load_bytes(skb, at, head, sizeof(head)))
		return 0;
	if (p->family == 4) {
		__be32 ends[2];
		if (head[0] >> 4 != 4 || (head[0] & 15) < 5 || (head[6] & 0x1f) || head[7] ||
		    bpf_skb_load_bytes(skb, at + 12, ends, sizeof(ends)))
			return 0;
		addr_from4(from, ends[0]);
		addr_from4(to, ends[1]);
		k->proto = head[9];
		at += (head[0] & 15) * 4;
	} else {
		if (head[0] >> 4 != 6 || bpf_skb_load_bytes(skb, at + 8, from, 16) || bpf_skb_load_bytes(skb, at + 24, to, 16))
			return 0;
		k->proto = head[6];
		at += 40;
	}
	__u16 sport = 0, dport = 0;
	if (at + 8 > p->ip_end || bpf_skb_load_bytes(skb, at, ports, 8))
		return 0;
	if (k->proto == PROTO_TCP || k->proto == PROTO_UDP) {
		sport = bpf_ntohs(ports[0]);
		dport = bpf_ntohs(ports[1]);
	} else if (k->proto == PROTO_ICMP || k->proto == PROTO_ICMP6) {
		if (icmp_is_echo(p->family, bpf_ntohs(ports[0]) >> 8))
			sport = dport = bpf_ntohs(ports[2]);
	}
	k->family = p->family;
	k->vlan = p->key.vlan;
	k->pa = p->port ? sport : dport;
	k->pb = p->port ? dport : sport;
	struct flow *f = flow_get(flow_index(flow_hash(k, c->flow_seed)));
	if (f && flow_known(f, p->now_s, k->proto))
		return 1;
	return opener_recall(opener_hash(k, c->flow_seed), p->now_s, k->proto == PROTO_TCP ? KNOWN_TCP_S : KNOWN_S) == 2 - p->port;
}

/* Layer 9, side IN and not local: 1 when refused; what lets it in is noted in p->inbound. */
__noinline int layers_inbound(struct __sk_buff *skb)
{
	struct work *w = scratch();
	struct control *c = settings();
	if (!w || !c)
		return 0;
	struct pkt *p = &w->p;
	int is_icmp = p->proto == (p->family == 6 ? PROTO_ICMP6 : PROTO_ICMP);
	__u8 refusal = V_REFUSE;
	int error = 0;

	if (p->fragment == LATER_FRAGMENT)
		return 0;
	if (p->ext_bad) {
		refusal = V_DROP;
	} else if (!p->ports_ok) {
		refusal = V_DROP;	/* a header cut short: the rest may follow in a fragment */
		error = 1;
	} else if (p->proto == PROTO_TCP) {
		if (!bare_syn(p)) {
			if (p->known)
				p->inbound = R_ESTABLISHED;
			return 0;
		}
	} else if (is_icmp && icmp_is_error(p->family, p->sport)) {
		if (quoted_flow_known(skb)) {
			p->inbound = R_ICMP_ERROR;
			return 0;
		}
		refusal = V_DROP;
		error = 1;
	} else {
		if (p->known || p->recalled) {
			p->inbound = R_ESTABLISHED;
			return 0;
		}
		if (p->proto != PROTO_UDP)
			refusal = V_DROP;
	}
	if (!error && !p->ext_bad && (p->features & F_INBOUND_ALLOW)) {
		struct inbound_key k = { .proto = p->proto, .port = p->dport };
		if (is_icmp || (p->proto != PROTO_TCP && p->proto != PROTO_UDP))
			k.port = 0;
		mac_to(k.mac, p->dmac);
		__u32 *until = bpf_map_lookup_elem(&inbound_allow, &k);
		if (until && in_force(p, *until)) {
			p->unsolicited = 1;
			p->inbound = R_INBOUND_ALLOWED;
			return 0;
		}
	}
	if (c->inbound_mode != IN_REFUSE || c->grace_until > p->now_s) {
		p->unsolicited = !error;
		p->inbound = R_LEARNING;
		return 0;
	}
	return settle(p, refusal, R_INBOUND);
}
