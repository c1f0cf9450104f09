/* SPDX-License-Identifier: GPL-2.0-only */
/* Which MAC stands behind which port: learnt from every frame of the slow path, so that known unicast can be sent
 * straight to the other port (no helper reads the bridge's own table).
 */
#pragma once
#include "policy.h"

static __always_inline struct mac_memo *memo_of(__u64 mac)
{
	__u32 i = (mac * HASH_K1) >> 54;
	return bpf_map_lookup_elem(&mac_memos, &i);
}

static __always_inline void learn_mac(struct pkt *p, struct state *st)
{
	struct mac_key k = {};
	__u64 here = p->smac | (__u64)p->port << 48;
	struct mac_memo *memo = memo_of(p->smac);
	if (!memo || (p->smac & 1) || (memo->mac_port == here && memo->seen_s == p->now_s))
		return;
	int moved = (memo->mac_port & MAC_MASK) == p->smac && memo->mac_port != here;
	memo->mac_port = here;
	memo->seen_s = p->now_s;
	mac_to(k.mac, p->smac);
	struct mac_value *v = bpf_map_lookup_elem(&macs, &k);
	if (v && v->port == p->port) {
		v->seen_s = p->now_s;
		return;
	}
	struct mac_value fresh = { .port = p->port, .seen_s = p->now_s };
	moved |= !!v;
	bpf_map_update_elem(&macs, &k, &fresh, BPF_ANY);
	if (moved) {
		__sync_fetch_and_add(&st->topo, 1);
		count(C_MAC_MOVED, 1, 0);
		p->moved = 1;
	}
}

/* `topo`; while the data path keeps a port closed, a number that no flow's is. */
static __always_inline __u64 topo_unless_loop(const struct state *st)
{
	_Static_assert(__builtin_offsetof(struct state, topo) == 0 && __builtin_offsetof(struct state, loop_port) == 4, "");
	_Static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__, "loop_port is the high half");
	return *(const volatile __u64 *)st;
}

/* FL_REDIRECT bits that hold now for this flow: the end behind each port was last seen there. */
static __always_inline __u32 redirect_flags(const struct pkt *p)
{
	struct mac_key k = {};
	struct mac_memo *memo = memo_of(p->dmac);
	if (memo && (memo->mac_port & MAC_MASK) == p->dmac)
		return memo->mac_port >> 48 == p->port ? 0 : FL_REDIRECT0 | FL_REDIRECT1;
	mac_to(k.mac, p->dmac);
	struct mac_value *v = bpf_map_lookup_elem(&macs, &k);
	if (!v || v->port == p->port)
		return 0;
	return FL_REDIRECT0 | FL_REDIRECT1;
}

static __always_inline int macs_match(const struct flow *f, __u32 port, __u64 smac, __u64 dmac, __s32 wan, __u64 box)
{
	/* 8-byte reads that reach into the neighbouring field, which the mask cuts off */
	__u64 a = *(const __u64 *)f->mac_a & MAC_MASK, b = *(const __u64 *)f->mac_b & MAC_MASK;
	__u64 here = port ? b : a, there = port ? a : b;
	if (dmac != there)
		return 0;
	return smac == here || ((__s32)port == wan && smac != box);
}
