/* SPDX-License-Identifier: GPL-2.0-only */
/* Answers made here: TCP RST to both ends, ICMP prohibited, DNS NXDOMAIN with an extended error.
 *
 * Checksums. A frame may carry CHECKSUM_PARTIAL (its own checksum still to be filled in at csum_start +
 * csum_offset by whoever sends it last) and no helper tells. bpf_l4_csum_replace without the pseudo-header
 * flag changes the field unless the checksum is partial: that is the probe. If partial, the field gets the
 * seed that makes the later sum come out right, else the finished sum.
 */
#pragma once
#include "policy.h"

static __always_inline __u16 fold(__u64 sum)
{
	sum = (sum & 0xffffffff) + (sum >> 32);
	sum = (sum & 0xffff) + (sum >> 16);
	sum = (sum & 0xffff) + (sum >> 16);
	sum = (sum & 0xffff) + (sum >> 16);
	return sum;
}

/* 1 partial, 0 not, negative error. Leaves the two bytes at `at` undefined. */
static __always_inline int checksum_partial(struct __sk_buff *skb, __u32 at)
{
	__u16 probe = 0x1111, seen = 0;
	if (bpf_skb_store_bytes(skb, at, &probe, 2, 0) ||
	    bpf_l4_csum_replace(skb, at, 0, bpf_htons(1), 2) ||
	    bpf_skb_load_bytes(skb, at, &seen, 2))
		return -1;
	return seen == probe;
}

/* Sum over pseudo-header: both addresses, length, protocol (order of the ends does not matter). */
static __always_inline __u64 pseudo_sum(const struct pkt *p, __u32 len, __u8 proto)
{
	__u64 sum = bpf_htons(len);
	sum += bpf_htons(proto);
	if (p->family == 4)
		return sum + p->src.w[3] + p->dst.w[3];
	for (int i = 0; i < 4; i++)
		sum += (__u64)p->src.w[i] + p->dst.w[i];
	return sum;
}

static __always_inline int store_eth(struct __sk_buff *skb, struct pkt *p, int back)
{
	__u8 macs[12];
	mac_to(macs, back ? p->smac : p->dmac);
	mac_to(macs + 6, back ? p->dmac : p->smac);
	return bpf_skb_store_bytes(skb, 0, macs, 12, 0);
}

/* IP header at p->l3 for `len` bytes of payload; back: towards the sender. */
static __always_inline int store_ip(struct __sk_buff *skb, struct pkt *p, __u32 l3, __u32 len, __u8 proto, int back)
{
	if (p->family == 4) {
		struct ip4_header ip = {
			.vihl = 0x45, .total = bpf_htons(20 + len), .frag = bpf_htons(0x4000), .ttl = 64,
			.proto = proto,
			.src = back ? p->dst.w[3] : p->src.w[3], .dst = back ? p->src.w[3] : p->dst.w[3],
		};
		ip.check = ~fold(bpf_csum_diff(0, 0, (__be32 *)&ip, sizeof(ip), 0));
		return bpf_skb_store_bytes(skb, l3, &ip, sizeof(ip), BPF_F_INVALIDATE_HASH);
	}
	struct ip6_header ip = {
		.flow = bpf_htonl(0x60000000), .payload = bpf_htons(len), .next = proto, .hops = 64,
	};
	addr_to6(ip.src, back ? &p->dst : &p->src);
	addr_to6(ip.dst, back ? &p->src : &p->dst);
	return bpf_skb_store_bytes(skb, l3, &ip, sizeof(ip), BPF_F_INVALIDATE_HASH);
}

static __always_inline int store_rst(struct __sk_buff *skb, struct pkt *p, int partial, int back)
{
	struct tcp_header t = { .offset = 5 << 4, .flags = TCP_RST };
	__u32 sent = p->payload_len + !!(p->tcp_flags & TCP_SYN) + !!(p->tcp_flags & TCP_FIN);

	t.sport = bpf_htons(back ? p->dport : p->sport);
	t.dport = bpf_htons(back ? p->sport : p->dport);
	if (!back) {
		t.seq = bpf_htonl(p->seq);
		t.ack = p->tcp_flags & TCP_ACK ? bpf_htonl(p->ack) : 0;
		t.flags |= p->tcp_flags & TCP_ACK;
	} else if (p->tcp_flags & TCP_ACK) {
		t.seq = bpf_htonl(p->ack);
		t.ack = bpf_htonl(p->seq + sent);
		t.flags |= TCP_ACK;
	} else {
		t.ack = bpf_htonl(p->seq + sent);
		t.flags |= TCP_ACK;
	}
	__u64 sum = pseudo_sum(p, sizeof(t), PROTO_TCP);
	if (partial)
		t.check = fold(sum);
	else
		t.check = ~fold(sum + (__u32)bpf_csum_diff(0, 0, (__be32 *)&t, sizeof(t), 0));
	return bpf_skb_store_bytes(skb, p->l4, &t, sizeof(t), BPF_F_INVALIDATE_HASH);
}

/* RST to the other end (unless it never heard of the connection), then to the sender. */
__noinline int refuse_tcp(struct __sk_buff *skb)
{
	struct work *w = scratch();
	struct control *c = settings();
	if (!w || !c)
		return TC_ACT_SHOT;
	struct pkt *p = &w->p;
	if (p->tcp_flags & TCP_RST)
		return TC_ACT_SHOT;
	if (!p->plain || !p->ports_ok)
		goto failed;
	if (bpf_skb_change_tail(skb, p->l4 + 20, 0))
		goto failed;
	int partial = checksum_partial(skb, p->l4 + 16);
	if (partial < 0)
		goto failed;
	if (!bare_syn(p)) {
		if (store_ip(skb, p, p->l3, 20, PROTO_TCP, 0) || store_rst(skb, p, partial, 0))
			goto failed;
		bpf_clone_redirect(skb, c->ifindex[!p->port], 0);
	}
	if (store_eth(skb, p, 1) || store_ip(skb, p, p->l3, 20, PROTO_TCP, 1) || store_rst(skb, p, partial, 1))
		goto failed;
	return bpf_redirect(skb->ifindex, 0);
failed:
	count(C_REFUSAL_FAILED, 1, 0);
	return TC_ACT_SHOT;
}

/* ICMP administratively prohibited, to the sender. A UDP checksum still to be filled in would fall on bytes 6 and 7
 * of the ICMP header, which are unused in this message and only have to be summed: so there the finished sum goes
 * (the checksum field itself stays 0), and the whole adds up all the same. */
__noinline int refuse_icmp(struct __sk_buff *skb)
{
	struct work *w = scratch();
	if (!w)
		return TC_ACT_SHOT;
	struct pkt *p = &w->p;
	__u8 proto = p->family == 4 ? PROTO_ICMP : PROTO_ICMP6;
	__u32 header = p->family == 4 ? 20 : 40, quoted = header + 8;
	struct { struct icmp_header icmp; __u8 quote[48]; } m = {};

	if (!p->plain || !p->ports_ok || p->fragment)
		goto failed;
	if (p->proto == proto && !icmp_is_echo(p->family, p->sport))
		return TC_ACT_SHOT;
	m.icmp.type = p->family == 4 ? 3 : 1;
	m.icmp.code = p->family == 4 ? 13 : 1;
	if (p->family == 4 ? bpf_skb_load_bytes(skb, p->l3, m.quote, 28) : bpf_skb_load_bytes(skb, p->l3, m.quote, 48))
		goto failed;
	if (bpf_skb_change_tail(skb, p->l4 + 8 + quoted, 0))
		goto failed;
	int partial = checksum_partial(skb, p->l4 + 6);
	if (partial < 0)
		goto failed;
	__u64 sum = p->family == 6 ? pseudo_sum(p, 8 + quoted, proto) : 0;
	if (partial)
		m.icmp.seq = fold(sum);
	else
		m.icmp.check = ~fold(sum + (__u32)bpf_csum_diff(0, 0, (__be32 *)&m, p->family == 4 ? 36 : 56, 0));
	if (store_eth(skb, p, 1) || store_ip(skb, p, p->l3, 8 + quoted, proto, 1))
		goto failed;
	if (p->family == 4 ? bpf_skb_store_bytes(skb, p->l4, &m, 36, 0) : bpf_skb_store_bytes(skb, p->l4, &m, 56, 0))
		goto failed;
	return bpf_redirect(skb->ifindex, 0);
failed:
	count(C_REFUSAL_FAILED, 1, 0);
	return TC_ACT_SHOT;
}

#define OPT_BYTES 17
#define EDE_BLOCKED 15

/* NXDOMAIN to the query in hand; w->name_len is that of its question. */
__noinline int answer_nxdomain(struct __sk_buff *skb)
{
	struct work *w = scratch();
	if (!w)
		return TC_ACT_SHOT;
	struct pkt *p = &w->p;
	__u8 *b = w->build;		/* UDP header, DNS header, question, OPT */
	__u32 question = 12 + w->name_len + 1 + 4;
	__u8 opt[11] = {};
	int edns = 0;

	asm volatile("" : "+r"(question));
	if (!p->plain || question < 17 || question > 12 + NAME_MAX + 5)
		goto failed;
	__u32 end = (8 + question) & (RAW_BYTES - 1);
	if (end > RAW_BYTES - 32)
		goto failed;
	__builtin_memset(b + end, 0, 24);	/* OPT, and the padding of the sum */
	b[6] = b[7] = 0;
	if (bpf_skb_load_bytes(skb, p->payload, b + 8, question))
		goto failed;
	/* counts: no answers or authorities and the first additional record is OPT */
	if (!b[14] && !b[15] && !b[16] && !b[17] && (b[18] || b[19]) &&
	    p->payload_len >= question + 11 && !bpf_skb_load_bytes(skb, p->payload + question, opt, 11))
		edns = !opt[0] && !opt[1] && opt[2] == 41;
	b[10] = (b[10] & 0x79) | 0x80;		/* QR; opcode and RD kept; AA, TC clear */
	b[11] = (b[11] & 0x10) | 0x80 | 3;	/* RA; CD kept; NXDOMAIN */
	b[14] = b[15] = b[16] = b[17] = b[18] = 0;
	b[19] = edns;
	__u32 len = 8 + question;
	if (edns) {
		/* root, OPT, 1232 bytes, version 0, DO as asked, one option: EDE 15 Blocked */
		__u32 at = len & (RAW_BYTES - 1);
		if (at > RAW_BYTES - OPT_BYTES)
			goto failed;
		__u8 *o = b + at;
		o[2] = 41;
		o[3] = 1232 >> 8;
		o[4] = 1232 & 0xff;
		o[7] = opt[7] & 0x80;
		o[10] = 6;
		o[12] = 15;
		o[14] = 2;
		o[16] = EDE_BLOCKED;
		len += OPT_BYTES;
	}
	struct udp_header *u = (void *)b;
	u->sport = bpf_htons(p->dport);
	u->dport = bpf_htons(p->sport);
	u->len = bpf_htons(len);
	if (bpf_skb_change_tail(skb, p->l4 + len, 0))
		goto failed;
	int partial = checksum_partial(skb, p->l4 + 6);
	if (partial < 0)
		goto failed;
	__u64 sum = pseudo_sum(p, len, PROTO_UDP);
	__u32 padded = (len + 3) & ~3u;
	asm volatile("" : "+r"(padded));
	if (padded < 8 || padded > RAW_BYTES)
		goto failed;
	if (partial) {
		u->check = fold(sum);
	} else {
		__u16 check = ~fold(sum + (__u32)bpf_csum_diff(0, 0, (__be32 *)b, padded, 0));
		u->check = check ? check : 0xffff;
	}
	if (store_eth(skb, p, 1) || store_ip(skb, p, p->l3, len, PROTO_UDP, 1))
		goto failed;
	asm volatile("" : "+r"(len));
	if (len < 8 || len > RAW_BYTES || bpf_skb_store_bytes(skb, p->l4, b, len, BPF_F_INVALIDATE_HASH))
		goto failed;
	return bpf_redirect(skb->ifindex, 0);
failed:
	count(C_REFUSAL_FAILED, 1, 0);
	return TC_ACT_SHOT;
}
