// SPDX-License-Identifier: GPL-2.0-only
/* The data path's programs. docs/datapath.md says what is decided and in which order.
 *
 * vigie_ingress tries the flow cache with a parser for the plain case first (fast.h), and gives everything else to the
 * whole decision (decide.h).
 */
#include "decide.h"
#include "fast.h"

char LICENSE[] SEC("license") = "GPL";

SEC("tc")
int vigie_ingress(struct __sk_buff *skb)
{
	int got = fast(skb);
	return got >= 0 ? got : whole(skb, got == FAST_ABSENT);
}

/* Egress of br0: remembers what the box itself opens, so that answers may come back to it. */
SEC("tc")
int vigie_own(struct __sk_buff *skb)
{
	struct work *w = scratch();
	if (!w)
		return TC_ACT_OK;
	struct pkt *p = &w->p;
	__builtin_memset(p, 0, sizeof(*p));
	if (parse(skb, p) != PARSED_IP || is_multicast(&p->dst, p->family))
		return TC_ACT_OK;
	p->ns = bpf_ktime_get_coarse_ns();
	p->now_s = seconds(p->ns);
	p->key.vlan = 0xffff;
	__u32 *seen = bpf_map_lookup_elem(&own, &p->key);
	if (seen) {
		if (*seen != p->now_s)
			*seen = p->now_s;
	} else {
		bpf_map_update_elem(&own, &p->key, &p->now_s, BPF_ANY);
	}
	return TC_ACT_OK;
}

SEC("tc")
int vigie_empty(struct __sk_buff *skb)
{
	return TC_ACT_OK;
}

SEC("xdp")
int vigie_pass(struct xdp_md *ctx)
{
	return XDP_PASS;
}
