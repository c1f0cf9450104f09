/* SPDX-License-Identifier: GPL-2.0-only */
/* The fast path: plain IPv4/IPv6 TCP/UDP of a flow whose cached verdict is "pass" in this epoch. */
#pragma once
#include "links.h"

/* What fast() says besides a TC action. */
#define FAST_NO (-1)		/* not its case */
#define FAST_ABSENT (-2)	/* its case, and the cache has no entry for this key */

/* The key stands in five registers (struct flow_key word by word): storing fields and loading words would stall. */
/* A function of its own so that its stack does not add to that of the whole decision. */
__noinline int fast(struct __sk_buff *skb)
{
	struct control *c = settings();
	struct state *st = shared_state();
	if (!c || !st)
		return FAST_NO;
	__u32 port = skb->ifindex == c->ifindex[1];
	if (unlikely(!port && skb->ifindex != c->ifindex[0]))
		return FAST_NO;
	void *data = (void *)(long)skb->data, *end = (void *)(long)skb->data_end;
	__u64 src0, src1, dst0, dst1, w4;
	struct tcp_header *t;
	__u32 ports, len = skb->len, l4_bytes;
	__u8 proto, tcp_flags = 0;
	__u16 vlan = 0xffff;

	struct eth_header *eth = data;
	if (data + 54 > end)
		return FAST_NO;
	if (eth->type == bpf_htons(TYPE_IPV4)) {
		struct ip4_header *ip = data + ETH_BYTES;
		if (ip->vihl != 0x45 || (ip->frag & bpf_htons(0x3fff)))
			return FAST_NO;
		__u32 total = bpf_ntohs(ip->total);
		if (total > len - ETH_BYTES || total < 40)
			return FAST_NO;
		l4_bytes = total - 20;
		proto = ip->proto;
		t = data + ETH_BYTES + 20;
		src0 = dst0 = 0;
		src1 = bpf_htonl(0xffff) | (__u64)ip->src << 32;
		dst1 = bpf_htonl(0xffff) | (__u64)ip->dst << 32;
		w4 = 4ull << 40;
	} else if (eth->type == bpf_htons(TYPE_IPV6)) {
		struct ip6_header *ip = data + ETH_BYTES;
		if (data + ETH_BYTES + 40 + 20 > end || (*(__u8 *)ip >> 4) != 6)
			return FAST_NO;
		l4_bytes = bpf_ntohs(ip->payload);
		if (l4_bytes > len - ETH_BYTES - 40 || l4_bytes < 20)
			return FAST_NO;
		proto = ip->next;
		t = data + ETH_BYTES + 40;
		src0 = *(__u64 *)ip->src;
		src1 = *(__u64 *)(ip->src + 2);
		dst0 = *(__u64 *)ip->dst;
		dst1 = *(__u64 *)(ip->dst + 2);
		w4 = 6ull << 40;
	} else {
		return FAST_NO;
	}
	if (proto == PROTO_TCP) {
		__u32 offset = (t->offset >> 4) * 4;
		tcp_flags = t->flags & 0x3f;
		if (offset < 20 || offset > l4_bytes || (tcp_flags & (TCP_SYN | TCP_ACK)) == TCP_SYN)
			return FAST_NO;
	} else if (proto != PROTO_UDP) {
		return FAST_NO;
	}
	ports = bpf_ntohl(*(__u32 *)t);	/* source<<16 | destination */
	if (skb->vlan_present && (skb->vlan_tci & 0xfff))
		vlan = skb->vlan_tci & 0xfff;
	w4 |= (__u64)vlan << 48 | (__u64)proto << 32 | (port ? ports : (ports >> 16 | (__u64)(ports & 0xffff) << 16));

	__u64 w0 = port ? dst0 : src0, w1 = port ? dst1 : src1, w2 = port ? src0 : dst0, w3 = port ? src1 : dst1;
	__u64 hash = words_hash(w0, w1, w2, w3, w4, c->flow_seed);
	struct flow *f = flow_find(w0, w1, w2, w3, w4, hash);
	if (!f)
		return FAST_ABSENT;
	__u64 meta = READ_ONCE(f->meta);
	__u32 gen = READ_ONCE(c->gen), flags = f->flags;
	__u32 verdict = meta_verdict(meta);
	if (meta_epoch(meta) != gen || (verdict != V_PASS && verdict != V_OBSERVE) ||
	    (flags & (FL_INSPECT | FL_HOLD)) || !(flags & (port ? FL_REDIRECT0 : FL_REDIRECT1)) ||
	    f->topo != topo_unless_loop(st) || c->loop_port == port + 1)
		return FAST_NO;
	/* before its name is known, a flow is looked at in full, but for QUIC packets that carry no name (short header) */
	if ((flags & FL_HELLO) && (proto != PROTO_UDP || (*((__u8 *)t + 8) & 0xc0) == 0xc0))
		return FAST_NO;
	__u64 dmac = *(__u64 *)eth->dst & MAC_MASK, smac = *(__u64 *)eth->src & MAC_MASK;
	if (!macs_match(f, port, smac, dmac, c->wan_port, *(const __u64 *)c->box_mac))
		return FAST_NO;
	__u32 now_s = seconds(bpf_ktime_get_coarse_ns());
	__s32 age = now_s - f->last_s;
	if ((f->until_s && f->until_s <= now_s) || age >= KNOWN_S || ((flags & FL_CLOSED) && age >= CLOSED_S))
		return FAST_NO;

	__u32 segments = skb->gso_segs, wire = len;
	if (!segments)
		segments = 1;
	if (segments > 1) {
		__u32 header = (void *)t - data + (proto == PROTO_TCP ? (t->offset >> 4) * 4 : 8);
		wire += (segments - 1) * header;
	}
	flow_account(f, port, segments, wire, now_s, tcp_flags);
	if (unlikely(c->features & F_TRACE)) {
		__u32 zero = 0;
		struct decision *d = bpf_map_lookup_elem(&decision, &zero);
		if (d) {
			__builtin_memset(d, 0, sizeof(*d));
			d->verdict = verdict;
			d->reason = meta_reason(meta);
			d->class = f->class;
			d->cached = 2;
			d->gen = gen;
			d->direction = (flags & FL_LOCAL) || c->wan_port < 0 ? 0 : (__s32)port == c->wan_port ? SIDE_IN : SIDE_OUT;
		}
	}
	if (len - ETH_BYTES > c->mtu[!port] && !skb->gso_size)
		return TC_ACT_OK;
	return bpf_redirect(c->ifindex[!port], 0);
}
