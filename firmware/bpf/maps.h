/* SPDX-License-Identifier: GPL-2.0-only */
/* Maps, the scratch area of one packet, and small helpers. */
#pragma once
#include <linux/bpf.h>
#include <linux/types.h>
#include <linux/pkt_cls.h>
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_endian.h>
#include "verdicts.h"
#include "layout.h"

/* libbpf 1.6 and later define these two themselves. */
#undef likely
#undef unlikely
#define likely(x) __builtin_expect(!!(x), 1)
#define unlikely(x) __builtin_expect(!!(x), 0)
#define READ_ONCE(x) (*(const volatile typeof(x) *)&(x))
#define WRITE_ONCE(x, v) (*(volatile typeof(x) *)&(x) = (v))
#define barrier() asm volatile("" ::: "memory")

#define MAP(map_name, map_type, entries, key_t, value_t, flags)	\
	struct {						\
		__uint(type, map_type);				\
		__uint(max_entries, entries);			\
		__type(key, key_t);				\
		__type(value, value_t);				\
		__uint(map_flags, flags);			\
	} map_name SEC(".maps")

MAP(control, BPF_MAP_TYPE_ARRAY, 1, __u32, struct control, BPF_F_MMAPABLE);
MAP(state, BPF_MAP_TYPE_ARRAY, 1, __u32, struct state, BPF_F_MMAPABLE);
MAP(flows, BPF_MAP_TYPE_ARRAY, FLOW_COUNT, __u32, struct flow, BPF_F_MMAPABLE);
MAP(flow_tags, BPF_MAP_TYPE_ARRAY, FLOW_COUNT / FLOW_WAYS, __u32, struct flow_tags, BPF_F_MMAPABLE);
MAP(holds, BPF_MAP_TYPE_ARRAY, FLOW_COUNT, __u32, struct hold, BPF_F_MMAPABLE);
MAP(openers, BPF_MAP_TYPE_ARRAY, INIT_COUNT, __u32, __u64, BPF_F_MMAPABLE);
MAP(exceptions, BPF_MAP_TYPE_LPM_TRIE, 16384, struct exception_key, struct exception_value, BPF_F_NO_PREALLOC);
MAP(local_names, BPF_MAP_TYPE_HASH, 16384, struct local_name_key, struct local_name_value, BPF_F_NO_PREALLOC);
MAP(quarantine, BPF_MAP_TYPE_HASH, 1024, struct mac_key, __u32, BPF_F_NO_PREALLOC);
MAP(dynamic, BPF_MAP_TYPE_LRU_HASH, 16384, struct dynamic_key, struct dynamic_value, 0);
MAP(inbound_allow, BPF_MAP_TYPE_HASH, 4096, struct inbound_key, __u32, BPF_F_NO_PREALLOC);
MAP(device_class, BPF_MAP_TYPE_HASH, 4096, struct mac_key, struct device_value, BPF_F_NO_PREALLOC);
MAP(class_policy, BPF_MAP_TYPE_HASH, 16384, struct class_policy_key, __u32, BPF_F_NO_PREALLOC);
MAP(essential_ports, BPF_MAP_TYPE_HASH, 256, struct essential_port_key, __u32, BPF_F_NO_PREALLOC);
MAP(resolved, BPF_MAP_TYPE_LRU_HASH, 16384, struct addr, struct resolved_value, 0);
MAP(macs, BPF_MAP_TYPE_LRU_HASH, 4096, struct mac_key, struct mac_value, 0);
MAP(own, BPF_MAP_TYPE_LRU_HASH, 4096, struct flow_key, __u32, 0);
MAP(counters, BPF_MAP_TYPE_PERCPU_ARRAY, REASON_COUNT, __u32, struct counter, 0);
MAP(decision, BPF_MAP_TYPE_PERCPU_ARRAY, 1, __u32, struct decision, 0);

struct {
	__uint(type, BPF_MAP_TYPE_RINGBUF);
	__uint(max_entries, 4 << 20);
} events SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_RINGBUF);
	__uint(max_entries, 2 << 20);
} held SEC(".maps");

struct image_map {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__uint(key_size, sizeof(__u32));
	__uint(value_size, PAGE_BYTES);
	__uint(map_flags, BPF_F_MMAPABLE | BPF_F_INNER_MAP);
};

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY_OF_MAPS);
	__uint(max_entries, 5);
	__type(key, __u32);
	__array(values, struct image_map);
} images SEC(".maps");

/* Token buckets, per CPU: 0 refusals to the LAN, 1 to the internet, 2.. events by kind. */
struct bucket { __u64 last_ns, tokens; };
MAP(buckets, BPF_MAP_TYPE_PERCPU_ARRAY, 2 + EVENT_KINDS, __u32, struct bucket, 0);

/* What `macs` said last, direct-mapped: spares a hash look-up or two per packet. mac | port<<48. */
struct mac_memo { __u64 mac_port; __u32 seen_s, pad; };
MAP(mac_memos, BPF_MAP_TYPE_ARRAY, 1024, __u32, struct mac_memo, 0);

enum side { SIDE_UNKNOWN = 0, SIDE_OUT = 1, SIDE_IN = 2 };	/* as event.direction */
enum fragment { WHOLE = 0, FIRST_FRAGMENT = 1, LATER_FRAGMENT = 2 };

/* What is known of the packet in hand. MACs: 6 bytes in wire order in a zeroed u64. */
struct pkt {
	struct flow_key key;
	struct addr src, dst;
	__u64 hash;
	__u64 meta;		/* of the flow's entry, as first read */
	__u64 smac, dmac;
	__u64 ns;
	__u32 now_s;
	__u32 len, wire_len, l3, l4, payload, payload_len;
	__u32 seq, ack;
	__u32 gen, features;
	__u32 until_s;		/* earliest expiry that the verdict rests on */
	__u16 sport, dport;	/* host order; ICMP: type, code */
	__u16 gso_size, segments;
	__u8 port, side, proto, family;
	__u8 tcp_flags, ports_ok, fragment, plain;
	__u8 local, opener, anomaly, verdict;
	__u8 reason, class, category, cached;
	__u8 spared, observed, rank, moved;
	__u8 ext_bad, known, recalled, unsolicited;
	__u8 inbound;		/* reason that layer 9 found to let it in */
	__u8 name_never;	/* the name in hand is below a never-block name, and not forced */
	__u8 hops, overlaps;
	__u8 absent;		/* the fast path has looked: no entry in the flow cache */
	__u8 flood, again;	/* one group frame of many; one that came again and again */
	__u8 pad;
	__u32 ip_end;		/* offset behind the IP packet: what follows is padding */
	__u32 place;		/* index of the flow's entry, if it has one; else beyond them all */
	__u64 name_hash;
};

#define RAW_BYTES 512
#define NAME_MAX 255

struct work {
	struct pkt p;
	struct flow_key lookup;		/* argument of flow_index() */
	__u64 pad;
	struct event event;
	__u8 payload[EVENT_PAYLOAD];	/* must follow event */
	__u32 name_len;			/* bytes of raw in use by the name, length bytes included */
	__u32 name_dotted;		/* raw holds text with dots rather than labels */
	__u64 marks[4];			/* bit i: raw[i] separates labels */
	__u8 raw[RAW_BYTES];
	__u8 build[RAW_BYTES];
};
MAP(work, BPF_MAP_TYPE_PERCPU_ARRAY, 1, __u32, struct work, 0);

/* Seconds, without a division per packet: renewed by whoever first sees the second pass. */
static volatile __u64 second_ns;
static volatile __u32 second_s;

static __always_inline __u32 seconds(__u64 ns)
{
	__u64 start = second_ns;
	if (likely(ns - start < 1000000000ull))
		return second_s;
	__u32 s = ns / 1000000000ull;
	second_s = s;
	second_ns = (__u64)s * 1000000000ull;
	return s;
}

static __always_inline void count(__u32 reason, __u32 packets, __u32 bytes)
{
	struct counter *c = bpf_map_lookup_elem(&counters, &reason);
	if (c) {
		c->packets += packets;
		c->bytes += bytes;
	}
}

static __always_inline struct work *scratch(void)
{
	__u32 zero = 0;
	return bpf_map_lookup_elem(&work, &zero);
}

static __always_inline struct control *settings(void)
{
	__u32 zero = 0;
	return bpf_map_lookup_elem(&control, &zero);
}

static __always_inline struct state *shared_state(void)
{
	__u32 zero = 0;
	return bpf_map_lookup_elem(&state, &zero);
}

static __always_inline int addr_equal(const struct addr *x, const struct addr *y)
{
	return x->q[0] == y->q[0] && x->q[1] == y->q[1];
}

static __always_inline void addr_from4(struct addr *a, __u32 wire)
{
	a->q[0] = 0;
	a->w[2] = bpf_htonl(0xffff);
	a->w[3] = wire;
}

/* From and to the four words of an IPv6 header on the stack (4-byte aligned there). */
static __always_inline void addr_from6(struct addr *a, const __be32 *words)
{
	for (int i = 0; i < 4; i++)
		a->w[i] = words[i];
}

static __always_inline void addr_to6(__be32 *words, const struct addr *a)
{
	for (int i = 0; i < 4; i++)
		words[i] = a->w[i];
}

#define MAC_MASK 0xffffffffffffull

static __always_inline __u64 mac_from(const __u8 *m)
{
	const __u16 *w = (const __u16 *)m;
	return w[0] | (__u32)w[1] << 16 | (__u64)w[2] << 32;
}

static __always_inline void mac_to(__u8 *m, __u64 mac)
{
	*(__u16 *)m = mac;
	*(__u16 *)(m + 2) = mac >> 16;
	*(__u16 *)(m + 4) = mac >> 32;
}

/* True while an entry with this expiry is in force; remembers the earliest expiry. */
static __always_inline int in_force(struct pkt *p, __u32 until_s)
{
	if (until_s == FOREVER)
		return 1;
	if (until_s <= p->now_s)
		return 0;
	if (!p->until_s || until_s < p->until_s)
		p->until_s = until_s;
	return 1;
}

/* One token of bucket `index`, refilled at `rate` a second, a second's worth at most. */
static __always_inline int take_token(__u32 index, __u32 rate, __u64 ns)
{
	struct bucket *b = bpf_map_lookup_elem(&buckets, &index);
	if (!b || !rate)
		return 0;
	__u64 full = (__u64)rate * 1000000000ull;
	__u64 gap = ns - b->last_ns;
	__u64 tokens = gap >= 1000000000ull ? full : b->tokens + gap * rate;
	if (tokens > full)
		tokens = full;
	b->last_ns = ns;
	if (tokens < 1000000000ull) {
		b->tokens = tokens;
		return 0;
	}
	b->tokens = tokens - 1000000000ull;
	return 1;
}
