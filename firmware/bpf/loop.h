/* SPDX-License-Identifier: GPL-2.0-only */
/* Both cables of the box in one switch: known by a probe of the box that left by one port and comes in by the other,
 * and cut here, since the storm leaves userspace no time. Port 1 is the one that is closed.
 *
 * Probes leave several times a second from userspace; and from here as soon as one group frame comes in again and
 * again, so that a storm drives its own detection. A probe carries a token of the port it leaves by, so that who sees
 * the probes of one side cannot make one that seems to have come round.
 */
#pragma once
#include "policy.h"

#define LOOP_PORT 1u
#define LOOP_HOLD_NS 2000000000ll	/* closed for so long after the last probe that came round */
#define FLOOD_WINDOW_NS 100000000ll
#define FLOOD_FRAMES 50			/* group frames in a window: more is a storm, or a stream */
#define FLOOD_AGAIN 10			/* the same one so often in a window: a storm */
#define PROBE_GAP_NS 20000000ll		/* between two probes from here */
#define PROBE_BYTES 27
#define PROBE_LEAST 60			/* shorter frames are not made into probes */

enum probe_path { PROBE_NONE = 0, PROBE_REFLECTED = 1, PROBE_ROUND = 2 };

/* Shared by all CPUs without a lock: a count that is a little off decides nothing. */
static volatile __u64 flood_since_ns, flood_probe_ns, flood_hash;
static volatile __u32 flood_count, flood_again;

#define ROTL64(x, n) ((x) << (n) | (x) >> (64 - (n)))
#define SIP_ROUND(v0, v1, v2, v3) do {						\
	v0 += v1; v1 = ROTL64(v1, 13); v1 ^= v0; v0 = ROTL64(v0, 32);		\
	v2 += v3; v3 = ROTL64(v3, 16); v3 ^= v2;				\
	v0 += v3; v3 = ROTL64(v3, 21); v3 ^= v0;				\
	v2 += v1; v1 = ROTL64(v1, 17); v1 ^= v2; v2 = ROTL64(v2, 32);		\
} while (0)

/* Token of a probe that leaves by `port`: SipHash-2-4 of the 8-byte word `port`, key (nonce, nonce). One way: a token tells
 * neither the nonce nor the other port's token. */
static __noinline __u64 probe_token(__u64 nonce, __u64 port)
{
	__u64 v0 = nonce ^ 0x736f6d6570736575ull, v1 = nonce ^ 0x646f72616e646f6dull;
	__u64 v2 = nonce ^ 0x6c7967656e657261ull, v3 = nonce ^ 0x7465646279746573ull;
	__u64 end = 8ull << 56;

	v3 ^= port;
	SIP_ROUND(v0, v1, v2, v3);
	SIP_ROUND(v0, v1, v2, v3);
	v0 ^= port;
	v3 ^= end;
	SIP_ROUND(v0, v1, v2, v3);
	SIP_ROUND(v0, v1, v2, v3);
	v0 ^= end;
	v2 ^= 0xff;
	SIP_ROUND(v0, v1, v2, v3);
	SIP_ROUND(v0, v1, v2, v3);
	SIP_ROUND(v0, v1, v2, v3);
	SIP_ROUND(v0, v1, v2, v3);
	return v0 ^ v1 ^ v2 ^ v3;
}

/* Which way a frame from the box's MAC came, if it is a probe. */
static __always_inline enum probe_path own_probe(struct __sk_buff *skb, const struct pkt *p, const struct control *c)
{
	struct { __be32 magic; __be64 token; } __attribute__((packed)) b;
	if (p->sport != TYPE_PROBE || !c->probe_nonce || bpf_skb_load_bytes(skb, p->l3, &b, sizeof(b)) ||
	    b.magic != bpf_htonl(PROBE_MAGIC))
		return PROBE_NONE;
	__u64 token = bpf_be64_to_cpu(b.token);
	if (token == probe_token(c->probe_nonce, !p->port))
		return PROBE_ROUND;
	return token == probe_token(c->probe_nonce, p->port & 1) ? PROBE_REFLECTED : PROBE_NONE;
}

static __always_inline void loop_seen(const struct pkt *p, struct state *st)
{
	st->probe_seen_ns[p->port & 1] = p->ns;
	barrier();
	WRITE_ONCE(st->loop_port, LOOP_PORT + 1);
}

/* What tells a frame from the next one of a stream: source, length, EtherType and what follows up to byte 60. */
static __always_inline __u64 frame_hash(struct __sk_buff *skb, const struct pkt *p)
{
	__u64 h = p->smac ^ (__u64)p->len << 48, words[6];
	if (p->len < PROBE_LEAST || bpf_skb_load_bytes(skb, 12, words, sizeof(words)))
		return 0;
	for (int i = 0; i < 6; i++) {
		h = (h ^ words[i]) * HASH_K1;
		h ^= h >> 32;
	}
	return h;
}

/* Counts group frames: p->flood says that there are many, p->again that one of them came again and again, as in a loop
 * (and unlike television). One frame of each window is the one that is looked for. */
static __always_inline void flood_watch(struct __sk_buff *skb, struct pkt *p)
{
	if (!(p->dmac & 1) || (p->features & F_NO_LIMITS))
		return;
	__u64 hash = frame_hash(skb, p);
	__u32 n = 1, again = flood_again;
	if ((__s64)(p->ns - flood_since_ns) >= FLOOD_WINDOW_NS) {
		flood_since_ns = p->ns;
		again = 0;
	} else {
		n += flood_count;
	}
	if (n == 1 || (!again && !(n & 255)))
		flood_hash = hash;
	else if (hash && hash == flood_hash)
		again++;
	flood_count = n;
	flood_again = again;
	p->flood = n > FLOOD_FRAMES;
	p->again = again >= FLOOD_AGAIN;
}

/* True when this frame must not pass because of a loop. Besides what comes in at the closed port, what would leave by
 * it: until userspace has closed the bridge's port (and says so in control.loop_port) everything that is not for the
 * box alone, afterwards only a storm of group frames. */
static __always_inline int loop_stops(const struct pkt *p, const struct control *c, struct state *st, __u64 box)
{
	if (c->loop_port == p->port + 1u)
		return 1;
	if (likely(!READ_ONCE(st->loop_port)))
		return 0;
	__u64 last = st->probe_seen_ns[0];
	if ((__s64)(st->probe_seen_ns[1] - last) > 0)
		last = st->probe_seen_ns[1];
	if ((__s64)(p->ns - last) >= LOOP_HOLD_NS) {
		WRITE_ONCE(st->loop_port, 0);
		return 0;
	}
	if (p->port == LOOP_PORT)
		return 1;
	if (p->dmac == box)
		return 0;
	return c->loop_port != LOOP_PORT + 1 || p->flood;
}

/* A passing frame of a storm goes out by the other port a second time, as a probe: its first bytes are exchanged for a
 * probe's, and put back. 1 when they could not be: the frame must not go on. */
__noinline int flood_probe(struct __sk_buff *skb)
{
	struct work *w = scratch();
	struct control *c = settings();
	if (!w || !c)
		return 0;
	struct pkt *p = &w->p;
	__u32 out = !p->port;
	struct {
		__u8 dst[6], src[6];
		__be16 type;
		__be32 magic;
		__be64 token;
		__u8 port;
	} __attribute__((packed)) probe = { .dst = { 0xff, 0xff, 0xff, 0xff, 0xff, 0xff }, .type = bpf_htons(TYPE_PROBE),
					    .magic = bpf_htonl(PROBE_MAGIC), .port = out };
	__u8 kept[PROBE_BYTES];

	if (!c->probe_nonce || p->gso_size || p->len < PROBE_LEAST || (__s64)(p->ns - flood_probe_ns) < PROBE_GAP_NS)
		return 0;
	flood_probe_ns = p->ns;
	__builtin_memcpy(probe.src, c->box_mac, 6);
	probe.token = bpf_cpu_to_be64(probe_token(c->probe_nonce, out));
	if (bpf_skb_load_bytes(skb, 0, kept, sizeof(kept)) || bpf_skb_store_bytes(skb, 0, &probe, sizeof(probe), 0))
		return 0;
	bpf_clone_redirect(skb, c->ifindex[out], 0);
	return !!bpf_skb_store_bytes(skb, 0, kept, sizeof(kept), 0);
}
