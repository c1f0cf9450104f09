/* SPDX-License-Identifier: GPL-2.0-only */
/* From a frame to struct pkt. Every read is bounded by the frame; what contradicts itself is named in
 * p->anomaly, and never gets more trust than it deserves.
 */
#pragma once
#include "flow.h"

#define ETH_BYTES 14
#define TYPE_IPV4 0x0800
#define TYPE_ARP 0x0806
#define TYPE_VLAN 0x8100
#define TYPE_IPV6 0x86dd
#define TYPE_QINQ 0x88a8
#define TYPE_QINQ_OLD 0x9100
#define TYPE_PROBE 0x88b5	/* local experimental */
#define PROBE_MAGIC 0x56474c50	/* VGLP */

#define PROTO_ICMP 1
#define PROTO_TCP 6
#define PROTO_UDP 17
#define PROTO_ICMP6 58

#define MAX_TAGS 4
#define MAX_EXTENSIONS 8

enum parsed { PARSED_IP = 0, PARSED_OTHER = 1, PARSED_SHORT = 2 };

struct eth_header { __u8 dst[6], src[6]; __be16 type; };

struct ip4_header {
	__u8 vihl, tos;
	__be16 total, id, frag;
	__u8 ttl, proto;
	__be16 check;
	__be32 src, dst;
};

struct ip6_header {
	__be32 flow;
	__be16 payload;
	__u8 next, hops;
	__be32 src[4], dst[4];
};

struct tcp_header {
	__be16 sport, dport;
	__be32 seq, ack;
	__u8 offset, flags;
	__be16 window, check, urgent;
};

struct udp_header { __be16 sport, dport, len, check; };
struct icmp_header { __u8 type, code; __be16 check, id, seq; };

static __always_inline int is_vlan(__u16 type)
{
	return type == TYPE_VLAN || type == TYPE_QINQ || type == TYPE_QINQ_OLD;
}

static __always_inline int icmp_is_error(__u8 family, __u8 type)
{
	return family == 6 ? type >= 1 && type <= 4 : type == 3 || type == 11 || type == 12;
}

static __always_inline int icmp_is_echo(__u8 family, __u8 type)
{
	return family == 6 ? type == 128 || type == 129 : type == 8 || type == 0;
}

/* Router, neighbour and group management of IPv6, with the hop limit that proves it comes from the link. */
static __always_inline int icmp6_is_local(const struct pkt *p)
{
	if ((p->sport >= 130 && p->sport <= 132) || p->sport == 143)
		return p->hops == 1;
	return p->sport >= 133 && p->sport <= 137 && p->hops == 255;
}

/* Transport header at p->l4, `left` bytes of it inside the IP packet. */
static __always_inline void parse_transport(struct __sk_buff *skb, struct pkt *p, __u32 left)
{
	if (p->fragment == LATER_FRAGMENT)
		return;
	if (p->proto == PROTO_TCP) {
		struct tcp_header t;
		if (left < sizeof(t) || bpf_skb_load_bytes(skb, p->l4, &t, sizeof(t))) {
			p->anomaly = R_SHORT_L4;
			return;
		}
		__u32 offset = (t.offset >> 4) * 4;
		if (offset < sizeof(t) || offset > left) {
			p->anomaly = R_BAD_TCP;
			return;
		}
		p->sport = bpf_ntohs(t.sport);
		p->dport = bpf_ntohs(t.dport);
		p->seq = bpf_ntohl(t.seq);
		p->ack = bpf_ntohl(t.ack);
		p->tcp_flags = t.flags;
		p->payload = p->l4 + offset;
		p->payload_len = left - offset;
	} else if (p->proto == PROTO_UDP) {
		struct udp_header u;
		if (left < sizeof(u) || bpf_skb_load_bytes(skb, p->l4, &u, sizeof(u))) {
			p->anomaly = R_SHORT_L4;
			return;
		}
		p->sport = bpf_ntohs(u.sport);
		p->dport = bpf_ntohs(u.dport);
		p->payload = p->l4 + sizeof(u);
		p->payload_len = left - sizeof(u);
	} else if ((p->proto == PROTO_ICMP && p->family == 4) || (p->proto == PROTO_ICMP6 && p->family == 6)) {
		struct icmp_header i;
		if (left < sizeof(i) || bpf_skb_load_bytes(skb, p->l4, &i, sizeof(i))) {
			p->anomaly = R_SHORT_L4;
			return;
		}
		p->sport = i.type;
		p->dport = i.code;
		p->payload = p->l4 + sizeof(i);
		p->payload_len = left - sizeof(i);
		if (icmp_is_echo(p->family, i.type))
			p->key.pa = p->key.pb = bpf_ntohs(i.id);
		p->ports_ok = 1;
		return;
	} else {
		p->payload = p->l4;
		p->payload_len = left;
		p->ports_ok = 1;
		return;
	}
	p->key.pa = p->port ? p->dport : p->sport;
	p->key.pb = p->port ? p->sport : p->dport;
	p->ports_ok = 1;
}

static __always_inline int parse_ip4(struct __sk_buff *skb, struct pkt *p)
{
	struct ip4_header ip;
	__u32 room = p->len - p->l3;

	if (p->len < p->l3 + sizeof(ip) || bpf_skb_load_bytes(skb, p->l3, &ip, sizeof(ip))) {
		p->anomaly = R_SHORT_IP;
		return PARSED_OTHER;
	}
	if (ip.vihl >> 4 != 4) {
		p->anomaly = R_BAD_IP_VERSION;
		return PARSED_OTHER;
	}
	__u32 header = (ip.vihl & 15) * 4, total = bpf_ntohs(ip.total);
	if (!total && p->gso_size)
		total = room;
	if (header < sizeof(ip) || total < header || total > room) {
		p->anomaly = R_BAD_IP_LENGTH;
		return PARSED_OTHER;
	}
	p->family = 4;
	p->proto = ip.proto;
	p->plain = header == sizeof(ip);
	p->hops = ip.ttl;
	addr_from4(&p->src, ip.src);
	addr_from4(&p->dst, ip.dst);
	__u16 frag = bpf_ntohs(ip.frag);
	p->overlaps = p->proto == PROTO_TCP && (frag & 0x1fff) == 1;	/* over the flags: RFC 3128 */
	if (frag & 0x1fff)
		p->fragment = LATER_FRAGMENT;
	else if (frag & 0x2000)
		p->fragment = FIRST_FRAGMENT;
	if (p->fragment)
		p->anomaly = R_FRAGMENT;
	p->l4 = p->l3 + header;
	p->ip_end = p->l3 + total;
	parse_transport(skb, p, total - header);
	return PARSED_IP;
}

static __always_inline int parse_ip6(struct __sk_buff *skb, struct pkt *p)
{
	struct ip6_header ip;
	__u32 room = p->len - p->l3;

	if (p->len < p->l3 + sizeof(ip) || bpf_skb_load_bytes(skb, p->l3, &ip, sizeof(ip))) {
		p->anomaly = R_SHORT_IP;
		return PARSED_OTHER;
	}
	if ((bpf_ntohl(ip.flow) >> 28) != 6) {
		p->anomaly = R_BAD_IP_VERSION;
		return PARSED_OTHER;
	}
	__u32 left = bpf_ntohs(ip.payload);
	if (!left && p->gso_size)
		left = room - sizeof(ip);
	if (left > room - sizeof(ip)) {
		p->anomaly = R_BAD_IP_LENGTH;
		return PARSED_OTHER;
	}
	p->family = 6;
	p->ip_end = p->l3 + sizeof(ip) + left;
	addr_from6(&p->src, ip.src);
	addr_from6(&p->dst, ip.dst);
	p->plain = 1;
	p->hops = ip.hops;
	__u32 at = p->l3 + sizeof(ip);
	__u8 next = ip.next;

	for (int i = 0; i <= MAX_EXTENSIONS; i++) {
		int skip;
		__u8 head[4];
		if (!(next == 0 || next == 43 || next == 44 || next == 51 || next == 60 ||
		      next == 135 || next == 139 || next == 140))
			break;
		p->plain = 0;
		if (i == MAX_EXTENSIONS || left < 8 || bpf_skb_load_bytes(skb, at, head, sizeof(head))) {
			p->anomaly = R_EXT_HEADERS;
			p->ext_bad = 1;
			p->proto = next;
			return PARSED_IP;
		}
		if (next == 44) {
			__u16 frag = head[2] << 8 | head[3];
			if (frag & 0xfff8)
				p->fragment = LATER_FRAGMENT;
			else if (frag & 1)
				p->fragment = FIRST_FRAGMENT;
			skip = 8;
		} else if (next == 51) {
			skip = (head[1] + 2) * 4;
		} else {
			skip = (head[1] + 1) * 8;
		}
		if (skip > left) {
			p->anomaly = R_EXT_HEADERS;
			p->ext_bad = 1;
			p->proto = next;
			return PARSED_IP;
		}
		int was_fragment = next == 44;
		next = head[0];
		at += skip;
		left -= skip;
		if (was_fragment && p->fragment == LATER_FRAGMENT)
			break;	/* what follows is the middle of something */
	}
	if (p->fragment)
		p->anomaly = R_FRAGMENT;
	p->proto = next;
	p->l4 = at;
	parse_transport(skb, p, left);
	return PARSED_IP;
}

/* Fills all of p but the verdict. p is zeroed, with port, now and gen set. */
static __noinline int parse(struct __sk_buff *skb, struct pkt *p)
{
	struct eth_header eth;
	__u32 at = ETH_BYTES;
	__u16 type;

	p->len = skb->len;
	p->gso_size = skb->gso_size;
	__u32 segments = skb->gso_segs;
	p->segments = segments ? segments : 1;
	p->wire_len = p->len;
	p->key.vlan = 0xffff;
	if (p->len < ETH_BYTES || bpf_skb_load_bytes(skb, 0, &eth, sizeof(eth))) {
		p->anomaly = R_SHORT_FRAME;
		return PARSED_SHORT;
	}
	p->smac = mac_from(eth.src);
	p->dmac = mac_from(eth.dst);
	type = bpf_ntohs(eth.type);
	if (skb->vlan_present && (skb->vlan_tci & 0xfff))
		p->key.vlan = skb->vlan_tci & 0xfff;

	for (int i = 0; i < MAX_TAGS; i++) {
		__be16 tag[2];
		if (!is_vlan(type))
			break;
		if (p->len < at + 4 || bpf_skb_load_bytes(skb, at, tag, sizeof(tag))) {
			p->anomaly = R_SHORT_IP;
			p->l3 = at;
			return PARSED_OTHER;
		}
		if (p->key.vlan == 0xffff && (bpf_ntohs(tag[0]) & 0xfff))
			p->key.vlan = bpf_ntohs(tag[0]) & 0xfff;	/* id 0 is a priority, no network */
		type = bpf_ntohs(tag[1]);
		at += 4;
	}
	p->l3 = at;
	if (is_vlan(type)) {
		p->anomaly = R_VLAN_DEPTH;
		return PARSED_OTHER;
	}
	int kind = PARSED_OTHER;
	if (type == TYPE_IPV4)
		kind = parse_ip4(skb, p);
	else if (type == TYPE_IPV6)
		kind = parse_ip6(skb, p);
	else
		p->sport = type;	/* for the gates: ARP and the loop probe */
	if (kind != PARSED_IP)
		return kind;
	p->key.a = p->port ? p->dst : p->src;
	p->key.b = p->port ? p->src : p->dst;
	p->key.proto = p->proto;
	p->key.family = p->family;
	if (p->segments > 1 && p->payload)	/* each segment has headers of its own on the wire */
		p->wire_len = p->len + (p->segments - 1) * (p->payload > 256 ? 0 : p->payload);
	return PARSED_IP;
}
