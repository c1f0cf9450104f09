/* SPDX-License-Identifier: GPL-2.0-only */
/* Names: one walk from the last byte to the first gives the keyed hash of every suffix, each looked up
 * at its boundary. The look-ups stand in functions of their own and the walk in bpf_loop: inlined
 * nested loops cost the verifier over a million instructions, this way a few thousand.
 */
#pragma once
#include "image.h"
#include "events.h"

/* Result of the walk over the suffixes. */
struct name_walk {
	struct work *w;
	__u64 h, key;
	__u32 at;		/* next byte, counted down */
	__u32 slot;
	__u32 features;
	__u32 now_s;
	__u64 last;		/* hash of the longest suffix so far: in the end, of the name */
	__u64 row, forced;	/* class rows: longest listed; longest with CLASS_FORCE */
	__u64 device_exception, any_exception;	/* longest: action | until_s<<8 */
	__u8 never, rank, pad[2];
};

enum name_verdict { NAME_CLEAN = 0, NAME_BLOCK = 1, NAME_OBSERVE = 2, NAME_NEVER = 3, NAME_EXC_BLOCK = 4, NAME_EXC_ALLOW = 5 };

/* action | until_s<<8 of an exception for this name and this device (mac 0: any); 0 none. */
__noinline __u64 local_name(__u64 hash, __u64 mac, __u32 now_s)
{
	struct local_name_key k = { .hash = hash };
	mac_to(k.mac, mac);
	struct local_name_value *v = bpf_map_lookup_elem(&local_names, &k);
	if (!v || (v->until_s != FOREVER && v->until_s <= now_s))
		return 0;
	return v->action | (__u64)v->until_s << 8;
}

static __always_inline void suffix_seen(struct name_walk *n)
{
	__u64 hash = n->h ^ (n->h >> 32);
	hash *= NAME_FINAL;
	n->last = hash;

	/* longer suffixes come later and win */
	if (n->features & F_LOCAL_NAMES) {
		__u64 mac = n->w->p.side == SIDE_IN ? n->w->p.dmac : n->w->p.smac;
		__u64 v = local_name(hash, mac, n->now_s);
		if (v)
			n->device_exception = v;
		v = local_name(hash, 0, n->now_s);
		if (v)
			n->any_exception = v;
	}
	__u64 e = base_class_name(n->slot, hash);
	if (!e)
		return;
	if (class_flags(e) & CLASS_NEVER)
		n->never = 1;
	if (class_rank(e) && (!n->rank || class_rank(e) < n->rank))
		n->rank = class_rank(e);
	if ((class_flags(e) & CLASS_FORCE) && (class_action(e) == A_BLOCK || class_action(e) == A_OBSERVE))
		n->forced = e;
	n->row = e;
}

#define NAME_STRIDE 4	/* bytes per call: a call costs more than a byte */

static long name_bytes(__u32 i, void *data)
{
	struct name_walk *n = data;
	struct work *w = n->w;

	for (int step = 0; step < NAME_STRIDE; step++) {
		__u32 at = n->at - 1;
		if (at >= NAME_MAX + 1)
			return 1;
		n->at = at;
		__u8 c = w->raw[at];
		if (c >= 'A' && c <= 'Z')
			c |= 0x20;
		if (w->name_dotted ? c == '.' : (w->marks[at >> 6] >> (at & 63)) & 1) {
			suffix_seen(n);
			c = 0;
		}
		n->h = (n->h ^ c) * n->key;
	}
	return 0;
}

/* Decides the name in w->raw (w->name_len bytes). Sets class, category, rank, name_hash of the packet. */
__noinline int name_decide(void)
{
	struct work *w = scratch();
	if (!w)
		return NAME_CLEAN;
	struct name_walk n = {
		.w = w, .at = w->name_len, .slot = base_slot(w->p.gen), .features = w->p.features, .now_s = w->p.now_s,
	};
	void *image;
	struct image_header *h = image_of(n.slot, &image);
	if (!h) {
		count(C_NO_BASE, 1, 0);
		return NAME_CLEAN;
	}
	n.h = h->name_seed;
	n.key = h->name_key;
	bpf_loop((NAME_MAX + 1) / NAME_STRIDE, name_bytes, &n, 0);
	if (w->name_dotted)	/* text starts without a separator */
		suffix_seen(&n);
	w->p.name_hash = n.last;
	w->p.rank = n.rank;
	w->p.name_never = n.never && !n.forced;
	__u64 exception = n.device_exception ? n.device_exception : n.any_exception;
	if ((__u8)exception) {
		in_force(&w->p, exception >> 8);
		if ((__u8)exception == A_BLOCK)
			return NAME_EXC_BLOCK;
		if ((__u8)exception == A_OBSERVE && !w->p.observed)
			w->p.observed = R_EXCEPTION;
		return NAME_EXC_ALLOW;
	}
	__u64 e = n.forced ? n.forced : n.row;
	if (n.never && !n.forced)
		return NAME_NEVER;
	if (class_action(e) != A_BLOCK && class_action(e) != A_OBSERVE)
		return NAME_CLEAN;
	w->p.class = class_number(e);
	w->p.category = class_category(e);
	return class_action(e) == A_BLOCK ? NAME_BLOCK : NAME_OBSERVE;
}

/* ---- DNS question ---- */

struct label_walk { struct work *w; __u32 at, end; __u8 bad, done, pad[2]; };

static long label_step(__u32 i, void *data)
{
	struct label_walk *l = data;
	struct work *w = l->w;
	__u32 at = l->at;
	if (at >= l->end || at >= NAME_MAX) {
		l->bad = 1;
		return 1;
	}
	__u8 n = w->raw[at];
	if (!n) {
		l->done = 1;
		return 1;
	}
	if (n > 63) {
		l->bad = 1;
		return 1;
	}
	w->marks[(at >> 6) & 3] |= 1ull << (at & 63);
	l->at = at + n + 1;
	return 0;
}

/* Question of the DNS message at `offset`, `len` bytes: 0 with raw/name_len/marks set, 1 malformed, 2 not a
 * message of this kind (response when a query is asked for, other opcode, not one question). */
__noinline int dns_question(struct __sk_buff *skb, __u32 offset, __u32 len, __u32 response)
{
	struct work *w = scratch();
	__be16 head[6];

	if (!w)
		return 2;
	if (len < 12)
		return len ? 1 : 2;
	if (bpf_skb_load_bytes(skb, offset, head, sizeof(head)))
		return 1;
	__u16 flags = bpf_ntohs(head[1]);
	if ((flags >> 15) != !!response || bpf_ntohs(head[2]) != 1)
		return 2;
	__u32 n = len - 12;
	if (n > NAME_MAX + 5)
		n = NAME_MAX + 5;
	asm volatile("" : "+r"(n));
	if (n < 5 || n > NAME_MAX + 5)
		return 1;
	if (bpf_skb_load_bytes(skb, offset + 12, w->raw, n))
		return 1;
	w->marks[0] = w->marks[1] = w->marks[2] = w->marks[3] = 0;
	w->name_dotted = 0;
	struct label_walk l = { .w = w, .end = n };
	bpf_loop(129, label_step, &l, 0);
	if (l.bad || !l.done || l.at + 5 > n)
		return 1;
	w->name_len = l.at;
	return 0;
}
