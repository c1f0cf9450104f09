/* SPDX-License-Identifier: GPL-2.0-only */
/* Reports to userspace: a fixed head and what of the packet the kind calls for. */
#pragma once
#include "parse.h"

static __always_inline void event_head(struct event *e, const struct pkt *p, __u8 kind, __u32 payload_len)
{
	e->ns = p->ns;
	e->payload_len = payload_len;
	e->kind = kind;
	e->verdict = p->verdict;
	e->reason = p->reason;
	e->port = p->port;
	e->category = p->category;
	e->class = p->class;
	mac_to(e->smac, p->smac);
	mac_to(e->dmac, p->dmac);
	e->vlan = p->key.vlan;
	e->proto = p->proto;
	e->family = p->family;
	*(struct addr *)e->src = p->src;
	*(struct addr *)e->dst = p->dst;
	e->sport = p->sport;
	e->dport = p->dport;
	e->frame_len = p->len;
	e->gen = p->gen;
	e->tcp_flags = p->tcp_flags;
	e->direction = p->local ? 0 : p->side;
	e->gso_size = p->gso_size;
	e->name_hash = p->name_hash;
	e->remote_rank = p->rank;
	e->pad = 0;
}

static __always_inline int event_allowed(const struct pkt *p, __u32 kind)
{
	struct control *c = settings();
	if (!c)
		return 0;
	__u32 rate = c->event_rate[kind & (EVENT_KINDS - 1)];
	if (!rate)
		return 0;
	if (p->features & F_NO_LIMITS)
		return 1;
	if (take_token(2 + (kind & (EVENT_KINDS - 1)), rate, p->ns))
		return 1;
	count(C_EVENT_LIMITED, 1, 0);
	return 0;
}

static __always_inline void event_send(struct work *w, __u32 payload_len)
{
	if (payload_len > EVENT_PAYLOAD)
		payload_len = EVENT_PAYLOAD;
	if (bpf_ringbuf_output(&events, &w->event, sizeof(struct event) + payload_len, 0))
		count(C_EVENT_FULL, 1, 0);
}

/* Event with up to 512 bytes of the frame from `offset`. */
__noinline int event_packet(struct __sk_buff *skb, __u32 kind, __u32 offset)
{
	struct work *w = scratch();
	if (!w || !event_allowed(&w->p, kind))
		return 0;
	__u32 n = 0;
	if (offset < w->p.len)
		n = w->p.len - offset;
	if (n > 512)
		n = 512;
	asm volatile("" : "+r"(n));
	if (n < 1 || n > 512 || bpf_skb_load_bytes(skb, offset, w->payload, n))
		n = 0;
	event_head(&w->event, &w->p, kind, n);
	event_send(w, n);
	return 0;
}

struct name_copy { struct work *w; __u32 n, start; };

static long name_copy_byte(__u32 i, void *data)
{
	struct name_copy *x = data;
	struct work *w = x->w;
	__u32 at = (i + x->start) & (RAW_BYTES - 1);
	if (i >= x->n || i >= EVENT_PAYLOAD)
		return 1;
	__u8 c = w->raw[at];
	if (!w->name_dotted && at < 256 && (w->marks[(at >> 6) & 3] >> (at & 63)) & 1)
		c = '.';
	w->payload[i] = c;
	return 0;
}

/* Event whose payload is the name in w->raw, if one was read (text with dots). */
__noinline int event_name(__u32 kind)
{
	struct work *w = scratch();
	if (!w || !event_allowed(&w->p, kind))
		return 0;
	__u32 n = w->p.name_hash ? w->name_len : 0;
	if (n > NAME_MAX)
		n = NAME_MAX;
	struct name_copy x = { .w = w, .n = n };
	if (n && !w->name_dotted) {	/* labels: the first length byte is no separator */
		x.start = 1;
		x.n = n - 1;
	}
	bpf_loop(NAME_MAX, name_copy_byte, &x, 0);
	event_head(&w->event, &w->p, kind, x.n);
	event_send(w, x.n);
	return 0;
}
