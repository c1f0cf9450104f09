/* SPDX-License-Identifier: GPL-2.0-only */
/* Flow cache: groups of FLOW_WAYS entries in one array, and a small array of their tags. A look-up is a hash, one line
 * of tags, the entry, and no lock; an insertion never allocates; userspace reads it all through a memory map.
 */
#pragma once
#include "maps.h"

#define TCP_FIN 0x01
#define TCP_SYN 0x02
#define TCP_RST 0x04
#define TCP_ACK 0x10

#define KNOWN_S 300		/* UDP and the rest: younger than this is known */
#define KNOWN_TCP_S 7200
#define CLOSED_S 10

#define HASH_K1 0x9e3779b97f4a7c15ull
#define HASH_K2 0xc2b2ae3d27d4eb4full
#define HASH_K3 0x165667b19e3779f9ull
#define HASH_K4 0xd6e8feb86659fd93ull
#define HASH_K5 0xa0761d6478bd642full

static __always_inline __u64 words_hash(__u64 w0, __u64 w1, __u64 w2, __u64 w3, __u64 w4, __u64 seed)
{
	__u64 h = (w0 ^ seed) * HASH_K1;
	h ^= (w1 + seed) * HASH_K2;
	h ^= (w2 ^ (seed >> 7)) * HASH_K3;
	h ^= (w3 + HASH_K5) * HASH_K4;
	h ^= (w4 ^ HASH_K2) * HASH_K5;
	h ^= h >> 32;
	h *= HASH_K1;
	h ^= h >> 29;
	return h ? h : 1;
}

static __always_inline __u64 flow_hash(const struct flow_key *k, __u64 seed)
{
	const __u64 *w = (const __u64 *)k;
	return words_hash(w[0], w[1], w[2], w[3], w[4], seed);
}

static __always_inline __u64 meta_make(__u32 epoch, __u32 verdict, __u32 reason, __u64 hash)
{
	return (__u64)epoch << 32 | (verdict & 0xff) << 24 | (reason & 0xff) << 16 | (hash >> 48);
}

static __always_inline __u32 meta_epoch(__u64 meta) { return meta >> 32; }
static __always_inline __u32 meta_verdict(__u64 meta) { return (meta >> 24) & 0xff; }
static __always_inline __u32 meta_reason(__u64 meta) { return (meta >> 16) & 0xff; }
static __always_inline __u32 flow_opener(__u32 flags) { return (flags >> FL_INIT_SHIFT) & 3; }

static __always_inline int key_equal(const struct flow_key *x, const struct flow_key *y)
{
	const __u64 *a = (const __u64 *)x, *b = (const __u64 *)y;
	return a[1] == b[1] && a[3] == b[3] && a[4] == b[4] && a[0] == b[0] && a[2] == b[2];
}

/* Entry of a key given as its five words, in registers: the fast path never stores the key. */
static __always_inline struct flow *flow_find(__u64 w0, __u64 w1, __u64 w2, __u64 w3, __u64 w4, __u64 hash)
{
	__u32 group = (hash & (FLOW_COUNT - 1)) / FLOW_WAYS;
	struct flow_tags *tags = bpf_map_lookup_elem(&flow_tags, &group);
	__u16 tag = flow_tag16(hash);

	if (!tags)
		return 0;
	for (__u32 way = 0; way < FLOW_WAYS; way++) {
		if (READ_ONCE(tags->tag[way]) != tag)
			continue;
		__u32 i = group * FLOW_WAYS + way;
		struct flow *f = bpf_map_lookup_elem(&flows, &i);
		if (!f)
			return 0;
		const __u64 *k = (const __u64 *)&f->key;
		if (READ_ONCE(f->tag) == hash && k[1] == w1 && k[3] == w3 && k[4] == w4 && k[0] == w0 && k[2] == w2 &&
		    (READ_ONCE(f->meta) & 0xffff) == hash >> 48)
			return f;
	}
	return 0;
}

static __always_inline int flow_known(const struct flow *f, __u32 now_s, __u8 proto)
{
	/* signed: another processor's clock may be a tick ahead */
	__s32 age = now_s - f->last_s;
	if (f->flags & FL_CLOSED)
		return age < CLOSED_S;
	return age < (proto == 6 ? KNOWN_TCP_S : KNOWN_S);
}

/* Index of the entry of scratch()->lookup, or -1: flow_find as a function of its own. */
__noinline int flow_index(__u64 hash)
{
	struct work *w = scratch();
	__u32 group = (hash & (FLOW_COUNT - 1)) / FLOW_WAYS;
	struct flow_tags *tags = bpf_map_lookup_elem(&flow_tags, &group);
	__u16 tag = flow_tag16(hash);

	if (!w || !tags)
		return -1;
	for (__u32 way = 0; way < FLOW_WAYS; way++) {
		if (READ_ONCE(tags->tag[way]) != tag)
			continue;
		__u32 i = group * FLOW_WAYS + way;
		struct flow *f = bpf_map_lookup_elem(&flows, &i);
		if (!f)
			return -1;
		if (READ_ONCE(f->tag) == hash && key_equal(&f->key, &w->lookup) && (READ_ONCE(f->meta) & 0xffff) == hash >> 48)
			return i;
	}
	return -1;
}

static __always_inline struct flow *flow_get(int index)
{
	__u32 i = index;
	return index < 0 ? 0 : bpf_map_lookup_elem(&flows, &i);
}

/* ---- memory of openers: survives epochs, eviction from the cache and restarts ---- */

static __always_inline __u64 end_hash(const struct addr *a, __u16 port, __u64 seed)
{
	__u64 h = (a->q[0] ^ seed) * HASH_K1;
	h ^= (a->q[1] + HASH_K5) * HASH_K2;
	h ^= (port + seed) * HASH_K3;
	return h ^ (h >> 31);
}

/* Of a flow key without its tag: the same for both directions, as `a` is the end behind port 0. */
static __always_inline __u64 opener_hash(const struct flow_key *k, __u64 seed)
{
	__u64 h = end_hash(&k->a, k->pa, seed) * HASH_K4 + (end_hash(&k->b, k->pb, seed) + k->proto) * HASH_K5;
	h ^= h >> 32;
	h *= HASH_K2;
	return h ^ (h >> 31);
}

#define OPENER_TAG 0xfffffffe00000000ull
#define OPENER_PORT1 0x100000000ull

/* Behind which port, not at which address: a frame with a forged source cannot turn it round. */
static __always_inline void opener_remember(__u64 hash, __u32 port, __u32 now_s)
{
	__u32 i = hash & (INIT_COUNT - 1);
	__u64 *slot = bpf_map_lookup_elem(&openers, &i);
	if (slot)
		WRITE_ONCE(*slot, (hash & OPENER_TAG) | (port ? OPENER_PORT1 : 0) | now_s);
}

/* Behind which port (enum initiator) it was opened, if that was within `limit` seconds. */
static __always_inline enum initiator opener_recall(__u64 hash, __u32 now_s, __u32 limit)
{
	__u32 i = hash & (INIT_COUNT - 1);
	__u64 *slot = bpf_map_lookup_elem(&openers, &i);
	if (!slot)
		return INIT_UNKNOWN;
	__u64 v = READ_ONCE(*slot);
	if (!v || ((v ^ hash) & OPENER_TAG) || (__s32)(now_s - (__u32)v) >= (__s32)limit)
		return INIT_UNKNOWN;
	return v & OPENER_PORT1 ? INIT_PORT1 : INIT_PORT0;
}

/* ---- holds ---- */

static __always_inline struct hold *hold_of(const struct pkt *p)
{
	__u32 i = p->place;
	return bpf_map_lookup_elem(&holds, &i);
}

/* From here on no answer of userspace to an earlier hold of the entry matches. */
static __always_inline void hold_forget(const struct pkt *p)
{
	struct hold *h = hold_of(p);
	if (h)
		WRITE_ONCE(h->start_ns, 0);
}

/* ---- insertion ---- */

#define VICTIM_TRIES 3

/* Index of the entry to give up in the group: a free one, else the least worth keeping of three taken by chance (closed,
 * else unanswered, else oldest): looking at all would cost a cache line each. */
__noinline int flow_victim(__u64 hash, __u32 now_s)
{
	__u32 group = (hash & (FLOW_COUNT - 1)) / FLOW_WAYS, worst = 0;
	struct flow_tags *tags = bpf_map_lookup_elem(&flow_tags, &group);
	int victim = -1;

	if (!tags)
		return -1;
	for (__u32 way = 0; way < FLOW_WAYS; way++)
		if (!READ_ONCE(tags->tag[way]))
			return group * FLOW_WAYS + way;
	for (__u32 n = 0; n < VICTIM_TRIES; n++) {
		__u32 i = group * FLOW_WAYS + (((hash >> 20) + 3 * n) & (FLOW_WAYS - 1));
		struct flow *f = bpf_map_lookup_elem(&flows, &i);
		if (!f)
			return -1;
		__u32 age = now_s - f->last_s;
		if (age > 0x0fffffff)	/* another CPU's clock a tick ahead */
			age = 0;
		__u32 flags = f->flags, score = 1 + age;
		if (!READ_ONCE(f->tag))
			score += 0x40000000;
		else if (flags & FL_CLOSED)
			score += 0x20000000;
		else if (!(flags & FL_ANSWERED))
			score += 60;
		if (score > worst) {
			worst = score;
			victim = i;
		}
	}
	return victim;
}

static __always_inline void flow_publish_tag(int index, __u64 hash)
{
	__u32 group = (__u32)index / FLOW_WAYS;
	struct flow_tags *tags = bpf_map_lookup_elem(&flow_tags, &group);
	if (tags)
		WRITE_ONCE(tags->tag[index & (FLOW_WAYS - 1)], flow_tag16(hash));
}

/* Takes over `f` for the flow in hand. */
static __always_inline void flow_fill(struct flow *f, const struct pkt *p, __u32 flags, __u32 topo)
{
	/* tag 0 first, tag last, both as full barriers: no reader takes a half-written entry for its own. */
	__u64 before = __sync_lock_test_and_set(&f->tag, 0);
	if (before && before != p->hash)
		count(C_FLOW_EVICTED, 1, 0);
	f->key = p->key;
	f->flags = flags;
	f->last_s = f->first_s = p->now_s;
	f->packets[0] = f->packets[1] = 0;
	f->bytes[0] = f->bytes[1] = 0;
	f->until_s = p->until_s;
	mac_to(f->mac_a, p->port ? p->dmac : p->smac);
	mac_to(f->mac_b, p->port ? p->smac : p->dmac);
	f->topo = topo;
	f->class = p->class;
	f->layer_class = 0;
	f->pad[0] = f->pad[1] = 0;
	f->initial = p->seq;
	WRITE_ONCE(f->meta, meta_make(p->gen, p->verdict, p->reason, p->hash));
	__sync_lock_test_and_set(&f->tag, p->hash);
	count(C_FLOW_NEW, 1, 0);
}

/* Counters and TCP state of one more packet. */
static __always_inline void flow_account(struct flow *f, __u32 port, __u32 packets, __u32 bytes,
					 __u32 now_s, __u8 tcp_flags)
{
	port &= 1;
	f->packets[port] += packets;
	f->bytes[port] += bytes;
	__u32 flags = f->flags, old = flags;
	flags |= (__u32)tcp_flags << (FL_TCP_SHIFT + 8 * port);
	__u32 opener = flow_opener(flags);
	if (opener && opener != port + 1)
		flags |= FL_ANSWERED;
	if ((tcp_flags & TCP_RST) ||
	    ((flags >> FL_TCP_SHIFT) & (flags >> (FL_TCP_SHIFT + 8)) & TCP_FIN))
		flags |= FL_CLOSED;
	if (flags != old)	/* atomic: another processor may be changing other bits */
		__sync_fetch_and_or(&f->flags, flags & ~old);
	if (f->last_s != now_s)
		f->last_s = now_s;
}
