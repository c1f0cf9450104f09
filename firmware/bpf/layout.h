/* SPDX-License-Identifier: GPL-2.0-only */
/* Memory shared between the data path, the early loader and Python (vigie.filter.abi holds
 * the same as numpy dtypes; a test compares sizes and offsets through clang).
 *
 * Byte order: addresses and MACs are bytes in wire order; IPv4 addresses in 16-byte fields are
 * v4-mapped (::ffff:a.b.c.d). Ports, counts, interval bounds, keys of tables: host order.
 * Times: CLOCK_MONOTONIC. "s" fields are whole seconds, "ns" nanoseconds.
 */
#pragma once
#include <linux/types.h>
#include "verdicts.h"

#define LAYOUT_VERSION 2
#define PAGE_BYTES 4096

struct addr { union { __u8 b[16]; __u32 w[4]; __u64 q[2]; }; };	/* wire order */

/* ---- control: ARRAY[1], BPF_F_MMAPABLE ------------------------------------------------- */

/* `features`: tables that hold something; the others are not looked up. */
#define F_EXCEPTIONS	(1u << 0)
#define F_QUARANTINE	(1u << 1)
#define F_DYNAMIC	(1u << 2)
#define F_CLASS_POLICY	(1u << 3)
#define F_ESSENTIAL	(1u << 4)	/* essential_ports or essential_devices in use */
#define F_INBOUND_ALLOW	(1u << 5)
#define F_LOCAL_NAMES	(1u << 6)
#define F_RESOLVED	(1u << 7)	/* learn and use addresses of never-block / essential names */
#define F_HOLD		(1u << 8)	/* a daemon decodes held frames */
#define F_NO_LIMITS	(1u << 9)	/* replay: no rate limits */
#define F_TRACE		(1u << 10)	/* tests, replay: the fast path too fills `decision` */

#define ONLINK_MAX 8
#define BOX_ADDR_MAX 8
#define BOX_PORT_MAX 8
#define GATEWAY_MAX 4

struct prefix { struct addr net; struct addr mask; };		/* v4-mapped for IPv4: /24 has 120 mask bits */
struct box_port { __u16 port; __u8 proto; __u8 pad; };

struct control {
	__u32 gen;		/* counter<<2 | geo slot<<1 | base slot: read once per packet; the policy epoch */
	__u32 features;
	__u32 layout;		/* LAYOUT_VERSION */
	__s32 wan_port;		/* 0, 1, or -1 while roles are unknown */
	__u32 ifindex[2];
	__u32 mtu[2];
	__u8 box_mac[8];	/* 6 used */
	__u8 gw_mac[2][8];	/* default gateways (IPv4, IPv6 may differ); zero = none */
	__u32 inbound_mode;	/* enum inbound_mode */
	__u32 isolation_level;	/* 0..3 */
	__u32 isolation_until;	/* s */
	__u32 grace_until;	/* s: until then unsolicited inbound passes (flows not migrated) */
	__u32 loop_port;	/* 0 none, else port+1 to block: the bridge's port is closed as well */
	__u32 hold_ms;		/* at most 300 */
	__u32 rate_out;		/* refusals told to the LAN side, per second and CPU */
	__u32 rate_in;		/* refusals told to the internet side, per second and CPU */
	__u64 heartbeat_ns;	/* written by the daemon at least every 100 ms while F_HOLD */
	__u64 probe_nonce;	/* what the tokens of loop probes are made of; 0: no probes */
	__u32 onlink_count, box_addr_count, box_port_count, gateway_count;
	struct prefix onlink[ONLINK_MAX];
	struct addr box_addr[BOX_ADDR_MAX];
	struct box_port box_port[BOX_PORT_MAX];	/* open to on-link LAN sources */
	struct addr gateway[GATEWAY_MAX];	/* the gateways' own on-link addresses */
	__u32 event_rate[EVENT_KINDS];	/* per second and CPU; 0 = off */
	__u64 flow_seed;	/* random, set once: keys the flow hash */
};

/* Written by the data path only. ARRAY[1], BPF_F_MMAPABLE. */
struct state {
	__u32 topo;		/* bumped when a MAC changes port: cached redirects are re-checked */
	__u32 loop_port;	/* 0 none, else port+1 closed by the data path itself. Next to topo: the fast path reads both at once */
	__u64 probe_seen_ns[2];	/* own loop probe, sent by the other port, came in at port n */
};

/* ---- base and geo images: ARRAY of PAGE_BYTES values, inner maps of `images` -------------
 * `images` ARRAY_OF_MAPS[5]: 0,1 base slots; 2,3 geo slots; 4 scratch (updated to wait for RCU).
 * Page 0 is the header, page 1 the classes; each section starts on a page of its own.
 * An index of 2^bits + 1 entries (u32) gives, for key>>shift, the first element of the bucket.
 */
#define IMAGE_MAGIC 0x31474d49u	/* "IMG1" */

struct section { __u32 page; __u32 count; };

struct image_header {
	__u32 magic, version;
	__u32 pages, kind;		/* kind 0 base, 1 geo */
	__u64 name_key;			/* odd multiplier of the name hash */
	__u64 name_seed;
	__u32 shift4, shift6, shift_name, pad;	/* bucket = key >> shift (u32 start; top 64 bits; u64 hash) */
	struct section index4, start4, last4, class4;	/* u32, u32, u32, u8 */
	struct section ports4;				/* u64 sorted: address<<16 | port */
	struct section index6, start6_hi, start6_lo, last6_hi, last6_lo, class6; /* u32, 4 x u64, u8 */
	struct section index_name, hash_name, class_name;	/* u32, u64, u8 */
	struct section value4, value6;			/* geo: u64, AS number | country<<32 (two ASCII letters) */
	struct section ports6;				/* u64 sorted: port6_key() */
	__u64 serial;			/* version of the base, for people */
	__u8 digest[32];		/* SHA-256 of pages 1.. : checked by the early loader */
};

/* ports6 element: both halves of the address in host order, mixed, the low 16 bits being the port. */
#define PORT6_K1 0x9e3779b97f4a7c15ull
#define PORT6_K2 0xc2b2ae3d27d4eb4full
#define port6_key(hi, lo, port) (((((hi) * PORT6_K1) ^ ((lo) * PORT6_K2)) & ~0xffffull) | (port))

/* Name hash. The bytes of the name in lower case, labels separated by a zero byte, without the
 * root, taken from the LAST byte to the first:  h = seed;  h = (h ^ byte) * key;  then
 * h ^= h >> 32;  h *= NAME_FINAL.  So one walk gives the hash of every suffix at its boundary. */
#define NAME_FINAL 0x9e3779b97f4a7c15ull

/* Page 1: 256 of these. Class 0 is "not listed". */
#define CLASS_NEVER	(1u << 0)	/* never-block: spares from toxic, class and dynamic layers */
#define CLASS_PORTS	(1u << 1)	/* only the ports listed in ports4 / ports6 */
#define CLASS_FORCE	(1u << 2)	/* name holds even below a never-block name (DoH canaries, test) */
struct class_entry {
	__u8 flags;
	__u8 direction;	/* enum direction */
	__u8 action;	/* A_BLOCK, A_OBSERVE, A_NONE */
	__u8 category;
	__u8 rank;	/* essential rank 1..9, 0 = not essential */
	__u8 pad[11];
};

/* ---- flow cache: ARRAY[FLOW_COUNT], BPF_F_MMAPABLE; groups of FLOW_WAYS neighbours --------
 * "a" is the end behind port 0, "b" behind port 1. A reader trusts an entry only when the whole
 * key and the check bits of `meta` agree: one 64-bit word holds verdict, epoch and check.
 */
#define FLOW_COUNT (1u << 18)
#define FLOW_WAYS 8

#define FL_INSPECT	(1u << 0)	/* every packet takes the slow path (DNS) */
#define FL_HELLO	(1u << 1)	/* the client's first payload is still to be read */
#define FL_HOLD		(1u << 2)	/* held: waiting for userspace */
#define FL_REDIRECT0	(1u << 3)	/* frames to port 0 may be redirected (mac_a known there) */
#define FL_REDIRECT1	(1u << 4)
#define FL_ANSWERED	(1u << 5)	/* seen both ways */
#define FL_CLOSED	(1u << 6)	/* RST, or FIN both ways */
#define FL_LOCAL	(1u << 7)
#define FL_INIT_SHIFT	8		/* enum initiator, 2 bits */
#define FL_NAMED	(1u << 10)	/* refused by its server's name: no epoch forgets it, only a new connection */
#define FL_TCP_SHIFT	16		/* TCP flags seen from a: bits 16-23, from b: 24-31 */

struct flow_key {
	struct addr a, b;
	__u16 pa, pb;		/* ports; ICMP echo: the identifier twice; else 0 */
	__u8 proto, family;	/* family 4 or 6 */
	__u16 vlan;		/* outermost tag id, 0xffff none */
};				/* 40 bytes */

struct flow {
	__u64 tag;		/* hash of the key; 0 = free */
	struct flow_key key;
	__u64 meta;		/* epoch<<32 | verdict<<24 | reason<<16 | check */
	__u32 flags;
	__u32 last_s;
	/* second cache line */
	__u64 packets[2];	/* from port 0, from port 1 */
	__u64 bytes[2];		/* wire bytes, Ethernet header included */
	__u32 first_s;
	__u32 until_s;		/* re-decided after; 0 = never */
	__u8 mac_a[6], mac_b[6];
	__u32 topo;
	__u8 class, layer_class, pad[2];
	__u32 initial;		/* TCP: the client's initial sequence number */
};				/* 128 bytes */

/* A flow's first bytes held back, next to the entry of the same index: ARRAY[FLOW_COUNT], BPF_F_MMAPABLE. Userspace writes
 * `answer` and nothing else: an answer to a hold that is over names another start, and counts for nothing. */
struct hold {
	__u64 start_ns;		/* when it began, to the nanosecond: its identity; 0 none. Written by the data path only */
	__u64 answer;		/* start_ns<<16 | verdict<<8 | reason: V_PASS, or V_REFUSE */
};

/* What a look-up reads first: 16 bits of the hash of each entry of a group, 0 free, so that a miss costs one cache
 * line of a small table. ARRAY[FLOW_COUNT / FLOW_WAYS], BPF_F_MMAPABLE; entry i is way i % FLOW_WAYS of group
 * i / FLOW_WAYS, the group of hash & (FLOW_COUNT - 1). A tag may be stale: the entry's own tag decides. */
struct flow_tags { __u16 tag[FLOW_WAYS]; };
#define flow_tag16(hash) ((__u16)((hash) >> 32) ? (__u16)((hash) >> 32) : 1)

/* Memory of who opened a flow, longer than the cache: ARRAY[INIT_COUNT] of u64, indexed by a hash that is the same both
 * ways: 31 bits of hash | which end opened | s. */
#define INIT_COUNT (1u << 20)

/* ---- small tables ------------------------------------------------------------------------ */

#define FOREVER 0xffffffffu

/* exceptions: LPM_TRIE; prefixlen counts the bits of mac (48) + addr (128). mac zero = any device. */
struct exception_key { __u32 prefixlen; __u8 mac[6]; __u8 pad[6]; struct addr addr; };
	/* data begins at mac; pad is always zero: prefixlen = 96 + address bits (v4-mapped: 96 + 96 + n) */
struct exception_value { __u32 until_s; __u16 port; __u8 proto; __u8 action; };	/* port, proto 0 = all */

/* local_names: HASH; exceptions by name. A name covers its subdomains. */
struct local_name_key { __u64 hash; __u8 mac[6]; __u16 pad; };
struct local_name_value { __u32 until_s; __u8 action; __u8 pad[3]; };

/* quarantine: HASH mac -> until_s */
struct mac_key { __u8 mac[6]; __u16 pad; };

/* dynamic: LRU_HASH; mac zero = any device */
struct dynamic_key { __u8 mac[6]; __u16 pad; struct addr addr; };
struct dynamic_value { __u32 until_s; __u32 cause; };

/* inbound_allow: HASH; a port of a LAN device in real use */
struct inbound_key { __u8 mac[6]; __u8 proto; __u8 pad; __u16 port; __u16 pad2; };
	/* value: u32 until_s */

/* device_class: HASH mac -> u8 enum device_class ; u8 rank kept in isolation (0 none) */
struct device_value { __u8 class; __u8 essential_rank; __u8 pad[2]; };

/* class_policy: HASH; looked up AS, then country, then default */
enum policy_kind { PK_DEFAULT = 0, PK_COUNTRY = 1, PK_AS = 2 };
struct class_policy_key { __u8 class; __u8 kind; __u16 pad; __u32 value; };	/* country: two ASCII letters, first<<8|second */
	/* value: u32 enum action */

/* essential_ports: HASH; services kept by port whoever serves them (DNS, SIP) */
struct essential_port_key { __u8 proto; __u8 pad; __u16 port; };
	/* value: u32 rank */

/* resolved: LRU_HASH addr -> */
struct resolved_value { __u32 until_s; __u8 never; __u8 rank; __u8 pad[2]; };

/* macs: LRU_HASH mac -> port and when seen; written by the data path */
struct mac_value { __u32 port; __u32 seen_s; };

/* own: LRU_HASH of flow_key as the box sends it (a = box, b = remote) -> last_s */

/* ---- events -------------------------------------------------------------------------------- */
#define EVENT_PAYLOAD 576
#define HELD_BYTES 4096

struct event {
	__u64 ns;
	__u16 payload_len;
	__u8 kind, verdict, reason, port;
	__u8 category, class;
	__u8 smac[6], dmac[6];
	__u16 vlan;
	__u8 proto, family;
	__u8 src[16], dst[16];
	__u16 sport, dport;	/* ICMP: type, code */
	__u32 frame_len;
	__u32 gen;
	__u8 tcp_flags, direction;	/* direction: 1 to the internet, 2 from it, 0 unknown or local */
	__u16 gso_size;		/* held: size to cut at again, 0 = one frame */
	__u64 name_hash;	/* held: start_ns of the hold */
	__u32 remote_rank;
	__u32 pad;
};				/* 96 + payload */

/* counters: PERCPU_ARRAY[REASON_COUNT] of */
struct counter { __u64 packets, bytes; };

/* decision: PERCPU_ARRAY[1]: the last decision on this CPU, for tests and replay */
struct decision {
	__u8 verdict, reason, anomaly, cached;
	__u8 class, category, direction, kind;
	__u32 gen;
	__u32 pad;
	__u64 name_hash;
};
