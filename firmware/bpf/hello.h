/* SPDX-License-Identifier: GPL-2.0-only */
/* Server names: a ClientHello whose name stands in this frame is decided here; the others, and QUIC Initials,
 * go to userspace on the held ring.
 */
#pragma once
#include "refuse.h"

#define HOLD_SILENT_NS 300000000ull

enum hello { HELLO_NONE = 0, HELLO_NAME = 1, HELLO_MORE = 2, HELLO_NO_NAME = 3, HELLO_BAD = 4 };

struct extension_walk {
	struct __sk_buff *skb;
	__u32 at, end, avail;
	__u32 name_at, name_len;
	__u8 result, pad[3];
};

static long extension_step(__u32 i, void *data)
{
	struct extension_walk *x = data;
	__be16 head[2];
	__u8 name[5];

	if (x->at + 4 > x->end) {
		x->result = x->at == x->end ? HELLO_NO_NAME : HELLO_BAD;
		return 1;
	}
	if (x->at + 4 > x->avail || bpf_skb_load_bytes(x->skb, x->at, head, 4)) {
		x->result = HELLO_MORE;
		return 1;
	}
	__u32 len = bpf_ntohs(head[1]);
	if (x->at + 4 + len > x->end) {
		x->result = HELLO_BAD;
		return 1;
	}
	if (head[0]) {
		x->at += 4 + len;
		return 0;
	}
	if (len < 5) {
		x->result = HELLO_BAD;
		return 1;
	}
	if (x->at + 9 > x->avail || bpf_skb_load_bytes(x->skb, x->at + 4, name, 5)) {
		x->result = HELLO_MORE;
		return 1;
	}
	__u32 n = name[3] << 8 | name[4];
	if (name[2] || !n || n > NAME_MAX || n + 5 > len) {
		x->result = HELLO_BAD;
		return 1;
	}
	x->name_at = x->at + 9;
	x->name_len = n;
	x->result = x->name_at + n > x->avail ? HELLO_MORE : HELLO_NAME;
	return 1;
}

/* Reads the server name of the ClientHello at p->payload into w->raw. */
__noinline int client_hello(struct __sk_buff *skb)
{
	struct work *w = scratch();
	if (!w)
		return HELLO_NONE;
	struct pkt *p = &w->p;
	__u32 o = p->payload, avail = o + p->payload_len;
	__u8 head[6], small[2];
	__be16 len16;

	if (p->payload_len < 1 || bpf_skb_load_bytes(skb, o, head, 1) || head[0] != 0x16)
		return HELLO_NONE;
	if (p->payload_len < 6)
		return HELLO_MORE;
	if (bpf_skb_load_bytes(skb, o, head, 6) || head[1] != 3 || head[5] != 1)
		return HELLO_NONE;
	if (p->payload_len < 44)
		return HELLO_MORE;
	__u32 record = head[3] << 8 | head[4];
	__u8 hs[3];
	if (bpf_skb_load_bytes(skb, o + 6, hs, 3))
		return HELLO_MORE;
	__u32 body = hs[0] << 16 | hs[1] << 8 | hs[2];
	if (record < 4)
		return HELLO_BAD;
	if (body + 4 > record)
		return HELLO_MORE;	/* spread over several records: userspace puts it together */
	__u32 end = o + 9 + body;
	o += 43;
	if (bpf_skb_load_bytes(skb, o, small, 1))
		return HELLO_MORE;
	o += 1 + small[0];
	if (o + 2 > end)
		return HELLO_BAD;
	if (o + 2 > avail || bpf_skb_load_bytes(skb, o, &len16, 2))
		return HELLO_MORE;
	o += 2 + bpf_ntohs(len16);
	if (o + 1 > end)
		return HELLO_BAD;
	if (o + 1 > avail || bpf_skb_load_bytes(skb, o, small, 1))
		return HELLO_MORE;
	o += 1 + small[0];
	if (o == end)
		return HELLO_NO_NAME;
	if (o + 2 > end)
		return HELLO_BAD;
	if (o + 2 > avail || bpf_skb_load_bytes(skb, o, &len16, 2))
		return HELLO_MORE;
	o += 2;
	if (o + bpf_ntohs(len16) > end)
		return HELLO_BAD;
	struct extension_walk x = { .skb = skb, .at = o, .end = o + bpf_ntohs(len16), .avail = avail, .result = HELLO_MORE };
	bpf_loop(1024, extension_step, &x, 0);
	if (x.result != HELLO_NAME)
		return x.result;
	__u32 n = x.name_len;
	asm volatile("" : "+r"(n));
	if (n < 1 || n > NAME_MAX || bpf_skb_load_bytes(skb, x.name_at, w->raw, n))
		return HELLO_MORE;
	__u32 last = (n - 1) & (RAW_BYTES - 1);
	w->name_len = w->raw[last] == '.' ? last : n;
	w->name_dotted = 1;
	return HELLO_NAME;
}

/* QUIC v1 or v2 Initial: long header, fixed bit, type by version. */
static __always_inline int quic_initial(struct __sk_buff *skb, const struct pkt *p)
{
	__u8 h[5];
	if (p->payload_len < 1200 || bpf_skb_load_bytes(skb, p->payload, h, 5))
		return 0;
	if ((h[0] & 0xc0) != 0xc0)
		return 0;
	__u32 version = (__u32)h[1] << 24 | h[2] << 16 | h[3] << 8 | h[4];
	__u8 type = (h[0] >> 4) & 3;
	return (version == 1 && type == 0) || (version == 0x6b3343cf && type == 1);
}

/* Gives the frame to userspace as part of the hold that began at start_ns: 1 held, 0 let it through. */
__noinline int hold_frame(struct __sk_buff *skb, __u64 start_ns)
{
	struct work *w = scratch();
	if (!w)
		return 0;
	struct pkt *p = &w->p;
	__u32 len = p->len;

	asm volatile("" : "+r"(len));
	if (len < ETH_BYTES || len > HELD_BYTES)
		goto full;
	__u8 *room = bpf_ringbuf_reserve(&held, sizeof(struct event) + HELD_BYTES, 0);
	if (!room)
		goto full;
	p->verdict = V_HOLD;
	event_head((struct event *)room, p, E_HELD, len);
	((struct event *)room)->name_hash = start_ns;
	if (bpf_skb_load_bytes(skb, 0, room + sizeof(struct event), len)) {
		bpf_ringbuf_discard(room, 0);
		goto full;
	}
	bpf_ringbuf_submit(room, 0);
	count(C_HELD, 1, len);
	return 1;
full:
	count(C_HOLD_FULL, 1, 0);
	return 0;
}

#define HELLO_BYTES_MAX 16384

/* Where the payload stands behind the client's SYN: 0 first byte, >0 ahead of what is missing, <0 seen before. */
static __always_inline __s32 hello_offset(const struct pkt *p, __u32 initial)
{
	return (__s32)(p->seq + !!(p->tcp_flags & TCP_SYN) - (initial + 1));
}

/* The SYN of a connection that is open while its hello is awaited: repeated, or made to mislead. The server takes no notice
 * of it, and nor do we; should the server have lost the connection and open it anew, its SYN+ACK says so. */
static __always_inline int hello_awaited(const struct flow *f)
{
	return (f->flags & (FL_HELLO | FL_ANSWERED | FL_CLOSED)) == (FL_HELLO | FL_ANSWERED);
}

/* The server's SYN+ACK says where the client's bytes begin, whatever SYNs were sent (or behind the bytes of its SYN). */
static __always_inline void hello_place(const struct pkt *p, struct flow *f)
{
	if ((p->tcp_flags & (TCP_SYN | TCP_ACK)) != (TCP_SYN | TCP_ACK) || p->ack - 1 - f->initial < HELLO_BYTES_MAX)
		return;
	hold_forget(p);
	f->initial = p->ack - 1;
	__sync_fetch_and_and(&f->flags, ~FL_HOLD);
}

/* What userspace has answered to the hold under way: the reason of a refusal by name, else 0. Every packet obeys, but only
 * the client's write it down: they come one after another, so that none writes over what its next SYN begins. */
static __always_inline __u32 hold_answer(const struct pkt *p, struct flow *f)
{
	struct hold *h = hold_of(p);
	if (!h)
		return 0;
	__u64 start = READ_ONCE(h->start_ns), answer = READ_ONCE(h->answer);
	if (!start || answer >> 16 != start << 16 >> 16)
		return 0;
	__u32 verdict = answer >> 8 & 0xff, reason = verdict == V_REFUSE ? answer & 0xff : 0;
	if (flow_opener(f->flags) == p->port + 1u) {
		if (reason) {
			WRITE_ONCE(f->meta, meta_make(p->gen, V_REFUSE, reason, p->hash));
			__sync_fetch_and_or(&f->flags, FL_NAMED);
		}
		__sync_fetch_and_and(&f->flags, ~(FL_HELLO | FL_HOLD));
	}
	return reason;
}

/* The client's payload on a flow whose name is not known yet. Returns the verdict; changes the flow's flags. */
static __always_inline int hello_check(struct __sk_buff *skb, struct pkt *p, struct control *c, struct flow *f)
{
	struct hold *h = hold_of(p);
	if (!h)
		return 0;
	__u64 start = f->flags & FL_HOLD ? READ_ONCE(h->start_ns) : 0;
	int kind = HELLO_MORE;

	if (!start) {
		if (p->proto == PROTO_UDP) {
			/* the flag stays: a decoy before the Initial must not hide it */
			if (!quic_initial(skb, p))
				return 0;
		} else {
			/* segments out of order, or a decoy ahead of the hello: userspace puts them in order */
			__s32 offset = p->features & F_HOLD ? hello_offset(p, f->initial) : 0;
			if (offset + (__s32)p->payload_len <= 0 || offset >= HELLO_BYTES_MAX)
				return 0;	/* seen before, or far outside: not what the server will read first */
			kind = offset ? HELLO_MORE : client_hello(skb);
		}
		if (kind == HELLO_NAME) {
			__sync_fetch_and_and(&f->flags, ~(FL_HELLO | FL_HOLD));
			__u8 class = p->class, category = p->category;
			switch (name_decide()) {
			case NAME_EXC_BLOCK:
				settle(p, V_REFUSE, R_EXCEPTION_BLOCK);
				break;
			case NAME_BLOCK:
				settle(p, V_REFUSE, R_TOXIC_SNI);
				break;
			case NAME_OBSERVE:
				if (p->verdict == V_PASS)	/* the first observation stays */
					settle(p, V_OBSERVE, R_TOXIC_SNI);
				break;
			default:
				if (p->verdict == V_PASS && p->observed == R_EXCEPTION)
					settle(p, V_OBSERVE, R_EXCEPTION);
				p->class = class;
				p->category = category;
			}
			if (p->verdict == V_REFUSE)
				__sync_fetch_and_or(&f->flags, FL_NAMED);
			event_name(E_NAME);
			return 1;
		}
		if (kind == HELLO_BAD)
			p->anomaly = R_BAD_TLS;
		if (kind != HELLO_MORE) {
			__sync_fetch_and_and(&f->flags, ~(FL_HELLO | FL_HOLD));
			return 0;
		}
		/* not the coarse clock of p->ns: a client may reset and begin again within its tick */
		__u64 now = bpf_ktime_get_ns(), before = __sync_val_compare_and_swap(&h->start_ns, 0, now);
		start = before ? before : now;	/* another processor has begun it just now */
	}
	__s64 silent = p->ns - c->heartbeat_ns, held_for = p->ns - start;
	if (!(p->features & F_HOLD) || silent > (__s64)HOLD_SILENT_NS || held_for > c->hold_ms * 1000000ll) {
		__sync_fetch_and_and(&f->flags, ~(FL_HELLO | FL_HOLD));
		count(C_HOLD_EXPIRED, 1, 0);
		return 0;
	}
	if (!(f->flags & FL_HOLD))
		__sync_fetch_and_or(&f->flags, FL_HOLD);
	__u8 verdict = p->verdict;
	if (hold_frame(skb, start))
		return 2;
	p->verdict = verdict;
	__sync_fetch_and_and(&f->flags, ~(FL_HELLO | FL_HOLD));
	return 0;
}
