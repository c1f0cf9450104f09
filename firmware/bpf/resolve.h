/* SPDX-License-Identifier: GPL-2.0-only */
/* Addresses just resolved from never-block or essential names, learnt from the answers of resolvers that can
 * be trusted with it: the gateways, and those whose own address is never-block.
 */
#pragma once
#include "hello.h"

#define ANSWERS_MAX 16
#define RESOLVED_MIN_S 3600
#define RESOLVED_MAX_S 86400

struct answer_walk {
	struct __sk_buff *skb;
	__u32 at, end, now_s;
	__u32 left;
	__u8 never, rank, pad[2];
};

static long answer_step(__u32 i, void *data)
{
	struct answer_walk *a = data;
	struct __sk_buff *skb = a->skb;
	struct { __be16 type, class; __be32 ttl; __be16 len; } __attribute__((packed)) rr;
	__u8 n[1];

	if (!a->left)
		return 1;
	a->left--;
	/* owner name: labels, then a pointer or the root */
	int done = 0;
	for (int label = 0; label < 16; label++) {
		if (bpf_skb_load_bytes(skb, a->at, n, 1))
			return 1;
		if (n[0] >= 0xc0) {
			a->at += 2;
			done = 1;
			break;
		}
		a->at += n[0] + 1;
		if (!n[0]) {
			done = 1;
			break;
		}
	}
	if (!done || a->at + sizeof(rr) > a->end || bpf_skb_load_bytes(skb, a->at, &rr, sizeof(rr)))
		return 1;
	a->at += sizeof(rr);
	__u32 len = bpf_ntohs(rr.len), ttl = bpf_ntohl(rr.ttl);
	struct addr address = {};
	int is4 = rr.type == bpf_htons(1) && len == 4, is6 = rr.type == bpf_htons(28) && len == 16;
	if (a->at + len > a->end)
		return 1;
	if (rr.class == bpf_htons(1) && (is4 || is6)) {
		if (is4) {
			__u32 v4;
			if (bpf_skb_load_bytes(skb, a->at, &v4, 4))
				return 1;
			addr_from4(&address, v4);
		} else if (bpf_skb_load_bytes(skb, a->at, &address, 16)) {
			return 1;
		}
		if (ttl < RESOLVED_MIN_S)
			ttl = RESOLVED_MIN_S;
		if (ttl > RESOLVED_MAX_S)
			ttl = RESOLVED_MAX_S;
		struct resolved_value v = { .until_s = a->now_s + ttl, .never = a->never, .rank = a->rank };
		bpf_map_update_elem(&resolved, &address, &v, BPF_ANY);
		count(C_RESOLVED, 1, 0);
	}
	a->at += len;
	return 0;
}

/* The DNS answer in hand came in on a known flow. Called last: it uses the packet's class fields. */
__noinline int learn_answers(struct __sk_buff *skb)
{
	struct work *w = scratch();
	if (!w)
		return 0;
	struct pkt *p = &w->p;
	__be16 count_wire;

	struct control *c = settings();
	if (!c)
		return 0;
	if (p->local) {
		if (!is_gateway_mac(c, p->smac) || !is_gateway_address(c, &p->src))
			return 0;
	} else {
		if (!(class_flags(address_class(p, &p->src)) & CLASS_NEVER))
			return 0;
	}
	if (dns_question(skb, p->payload, p->payload_len, 1))
		return 0;
	int v = name_decide();
	if (v == NAME_BLOCK || v == NAME_OBSERVE || (!p->name_never && !p->rank))
		return 0;
	struct answer_walk a = { .skb = skb, .now_s = p->now_s, .end = p->ip_end, .never = p->name_never, .rank = p->rank };
	if (bpf_skb_load_bytes(skb, p->payload + 6, &count_wire, 2))
		return 0;
	a.left = bpf_ntohs(count_wire);
	a.at = p->payload + 12 + w->name_len + 5;
	bpf_loop(ANSWERS_MAX, answer_step, &a, 0);
	return 0;
}
