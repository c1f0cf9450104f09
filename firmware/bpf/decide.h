/* SPDX-License-Identifier: GPL-2.0-only */
/* The whole decision of one packet, which stands in a per-CPU scratch area so that each part is a function that the
 * verifier checks once: gates, flow cache, layers, server name; then what is done about it.
 */
#pragma once
#include "gates.h"
#include "resolve.h"

/* Layers of a packet without a valid cached verdict. */
__noinline int layers(struct __sk_buff *skb)
{
	struct work *w = scratch();
	if (!w)
		return 0;
	struct pkt *p = &w->p;
	if (layers_address())
		return 0;
	/* what hides a name or a port from us, and no ordinary host sends */
	if (p->overlaps)
		return settle(p, V_DROP, R_FRAGMENT);
	if (p->side != SIDE_IN && p->ext_bad)
		return settle(p, V_DROP, R_EXT_HEADERS);
	if (p->side != SIDE_IN && p->fragment == FIRST_FRAGMENT && p->spared != R_EXCEPTION &&
	    (p->proto == PROTO_TCP || (p->proto == PROTO_UDP && (p->dport == 53 || p->dport == 443))))
		return settle(p, V_DROP, R_FRAGMENT);
	if (p->ports_ok && !p->fragment && p->dport == 53 && (p->proto == PROTO_UDP || p->proto == PROTO_TCP) &&
	    p->spared != R_EXCEPTION && layers_dns(skb))
		return 0;
	if (p->local)
		return settle(p, p->observed ? V_OBSERVE : V_PASS, p->observed ? p->observed : R_LOCAL);
	if (!p->spared && layers_device())
		return 0;
	if (p->side == SIDE_IN && layers_inbound(skb))
		return 0;
	if (p->observed)
		return settle(p, V_OBSERVE, p->observed);
	return settle(p, V_PASS, p->spared ? p->spared : p->inbound ? p->inbound : R_DEFAULT);
}

/* Brings the entry of a re-decided flow up to date. */
static __always_inline void flow_refresh(struct flow *f, struct pkt *p, __u32 opener, __u32 topo, int hello)
{
	int anew = bare_syn(p) && !hello_awaited(f);	/* the tuple is used for another connection */
	__u32 set = redirect_flags(p), clear = FL_REDIRECT0 | FL_REDIRECT1 | FL_LOCAL;

	if (p->local)
		set |= FL_LOCAL;
	if (!flow_opener(f->flags))
		set |= opener << FL_INIT_SHIFT;
	if (anew) {
		clear |= 0xffff0000u | FL_CLOSED | FL_ANSWERED | FL_HELLO | FL_HOLD | FL_NAMED | (3u << FL_INIT_SHIFT);
		set |= opener << FL_INIT_SHIFT;
		if (hello)
			set |= FL_HELLO;
		f->initial = p->seq;
		hold_forget(p);
	}
	__sync_fetch_and_and(&f->flags, ~(clear & ~set));
	__sync_fetch_and_or(&f->flags, set);
	f->until_s = p->until_s;
	f->topo = topo;
	if (p->class)
		f->class = p->class;
	if (p->side != SIDE_IN || p->local) {
		mac_to(f->mac_a, p->port ? p->dmac : p->smac);
		mac_to(f->mac_b, p->port ? p->smac : p->dmac);
	}
	__u64 meta = meta_make(p->gen, p->verdict, p->reason, p->hash);
	if (anew)
		WRITE_ONCE(f->meta, meta);
	else	/* not over a refusal by name that another processor has written meanwhile */
		__sync_val_compare_and_swap(&f->meta, p->meta, meta);
}

/* After a decision by the layers: the flow's entry, updated or made; 0 when it has and gets none. */
static __always_inline struct flow *flow_settle(struct pkt *p, struct control *c, struct flow *f, __u32 opener,
						__u32 topo, int *fresh)
{
	int passes = p->verdict == V_PASS || p->verdict == V_OBSERVE;
	int outward = p->side != SIDE_IN && !p->local;
	int hello = outward && (bare_syn(p) || (p->proto == PROTO_UDP && p->dport == 443 && opener == p->port + 1u));

	if (f && p->known) {
		flow_refresh(f, p, opener, topo, hello);
		return f;
	}
	if (!passes || (p->side == SIDE_IN && !p->local))
		return 0;
	int taken = -1;
	if (!f) {
		taken = p->place = flow_victim(p->hash, p->now_s);
		f = flow_get(taken);
	}
	if (!f)
		return 0;
	__u32 flags = opener << FL_INIT_SHIFT | redirect_flags(p);
	if (p->local)
		flags |= FL_LOCAL;
	if (p->sport == 53 || p->dport == 53)
		flags |= FL_INSPECT;
	if (hello) {
		flags |= FL_HELLO;
		hold_forget(p);	/* of other flows' entries none begins before a SYN, which forgets: one cold line less for them */
	}
	flow_fill(f, p, flags, topo);
	if (taken >= 0)
		flow_publish_tag(taken, p->hash);
	*fresh = 1;
	return f;
}

static __always_inline void remember_opener(const struct pkt *p, const struct control *c)
{
	opener_remember(opener_hash(&p->key, c->flow_seed), p->port, p->now_s);
}

/* The whole decision: fills w->p with verdict and reason. */
__noinline int decide(struct __sk_buff *skb)
{
	struct work *w = scratch();
	struct control *c = settings();
	struct state *st = shared_state();
	if (!w || !c || !st)
		return V_PASS;
	struct pkt *p = &w->p;

	if (gates(skb))
		return p->verdict;

	__u32 topo = READ_ONCE(st->topo);
	struct flow *f = 0;
	int usable = cacheable(p), fresh = 0;
	p->place = -1;
	p->hash = flow_hash(&p->key, c->flow_seed);
	if (usable && !p->absent) {
		w->lookup = p->key;
		p->place = flow_index(p->hash);
		f = flow_get(p->place);
	}
	if (f) {
		p->meta = READ_ONCE(f->meta);
		p->known = flow_known(f, p->now_s, p->proto);
	}
	__u32 opener = find_opener(p, c, p->known ? f : 0);
	if (p->side != SIDE_UNKNOWN && opener)
		p->opener = opener == 2u - (__u32)c->wan_port ? 1 : 2;

	__u32 refused = 0;	/* by its server's name: whatever the epoch */
	if (f && p->known) {
		if (f->flags & FL_HOLD)
			refused = hold_answer(p, f);
		else if ((f->flags & FL_NAMED) && meta_verdict(p->meta) == V_REFUSE)
			refused = meta_reason(p->meta);
	}
	if (refused && !bare_syn(p)) {
		settle(p, V_REFUSE, refused);
		p->class = f->class;
		p->cached = 1;
	} else if (f && p->known && meta_epoch(p->meta) == p->gen && !(f->flags & FL_INSPECT) && !bare_syn(p) &&
	    (!f->until_s || f->until_s > p->now_s) &&
	    macs_match(f, p->port, p->smac, p->dmac, c->wan_port, *(const __u64 *)c->box_mac)) {
		settle(p, meta_verdict(p->meta), meta_reason(p->meta));
		p->class = f->class;
		p->cached = 1;
		__u32 want = redirect_flags(p), flags = f->flags;
		if (f->topo != topo || (flags & (FL_REDIRECT0 | FL_REDIRECT1)) != want) {
			__sync_fetch_and_and(&f->flags, ~(FL_REDIRECT0 | FL_REDIRECT1) | want);
			__sync_fetch_and_or(&f->flags, want);
			f->topo = topo;
		}
	} else {
		layers(skb);
		if (p->reason == R_INBOUND || !usable || (p->side == SIDE_IN && bare_syn(p) && p->verdict != V_PASS && p->verdict != V_OBSERVE))
			f = 0;	/* a forged SYN must not cut a flow of the LAN */
		else if (p->verdict != V_OBSERVE && (p->reason == R_TOXIC_DNS || (p->dport == 53 && p->reason == R_EXCEPTION_BLOCK)))
			f = p->known ? f : 0;	/* one question is refused, not the way to the resolver */
		else
			f = flow_settle(p, c, f, opener, topo, &fresh);
		if ((fresh && opener == p->port + 1u) || p->unsolicited)
			remember_opener(p, c);
		if (p->unsolicited)
			event_packet(skb, E_INBOUND, p->payload);
	}
	if (f) {
		flow_account(f, p->port, p->segments, p->wire_len, p->now_s,
			     p->proto == PROTO_TCP ? p->tcp_flags & 0x3f : 0);
		__u32 opener_is = f->flags & FL_HELLO ? flow_opener(f->flags) : 0;
		if (opener_is == 2u - p->port)
			hello_place(p, f);
		else if (opener_is == p->port + 1u && p->payload_len && !p->fragment && !(bare_syn(p) && hello_awaited(f)) &&
		    (p->verdict == V_PASS || p->verdict == V_OBSERVE) && p->reason != R_EXCEPTION) {
			__u8 verdict = p->verdict, reason = p->reason;
			int got = hello_check(skb, p, c, f);
			if (got == 1 && (p->verdict != verdict || p->reason != reason))
				WRITE_ONCE(f->meta, meta_make(p->gen, p->verdict, p->reason, p->hash));
			if (got)
				p->cached = 0;
		}
		if (fresh)
			event_packet(skb, E_FLOW, p->payload);
	}
	return p->verdict;
}

/* Reports, answers, and gives the TC action. */
__noinline int act(struct __sk_buff *skb)
{
	struct work *w = scratch();
	struct control *c = settings();
	if (!w || !c)
		return TC_ACT_OK;
	struct pkt *p = &w->p;
	__u32 zero = 0;
	struct decision *d = bpf_map_lookup_elem(&decision, &zero);
	if (d) {
		d->verdict = p->verdict;
		d->reason = p->reason;
		d->anomaly = p->anomaly;
		d->cached = p->cached;
		d->class = p->class;
		d->category = p->category;
		d->direction = p->local ? 0 : p->side;
		d->gen = p->gen;
		d->name_hash = p->name_hash;
	}
	count(p->reason, p->segments, p->wire_len);
	if (p->anomaly && p->anomaly != p->reason)
		count(p->anomaly, 1, 0);
	int dns = p->proto == PROTO_UDP && p->ports_ok && !p->fragment && (p->sport == 53 || p->dport == 53);

	switch (p->verdict) {
	case V_HOLD:
		return TC_ACT_SHOT;
	case V_PASS:
		if (p->again && flood_probe(skb))
			return TC_ACT_SHOT;
		if (dns) {
			event_packet(skb, E_DNS, p->payload);
			if ((p->features & F_RESOLVED) && p->sport == 53 && p->side == SIDE_IN && p->known)
				learn_answers(skb);
		} else if (p->proto == PROTO_UDP && !p->cached && p->reason != R_MULTICAST && is_dhcp(p)) {
			event_packet(skb, E_DHCP, p->payload);
		}
		return TC_ACT_OK;
	case V_OBSERVE:
		if (!p->cached)
			event_name(E_OBSERVED);
		return TC_ACT_OK;
	case V_NXDOMAIN:
		event_name(E_BLOCKED);
		return answer_nxdomain(skb);
	case V_REFUSE:
		event_name(E_BLOCKED);
		if (p->fragment || (p->dmac & 1))
			return TC_ACT_SHOT;
		if (!(p->features & F_NO_LIMITS) &&
		    !take_token(p->side == SIDE_IN, p->side == SIDE_IN ? c->rate_in : c->rate_out, p->ns)) {
			count(C_REFUSAL_LIMITED, 1, 0);
			return TC_ACT_SHOT;
		}
		return p->proto == PROTO_TCP ? refuse_tcp(skb) : refuse_icmp(skb);
	default:
		if (p->reason != R_LOOP)
			event_name(E_BLOCKED);
		return TC_ACT_SHOT;
	}
}

__noinline int whole(struct __sk_buff *skb, __u32 absent)
{
	struct work *w = scratch();
	struct control *c = settings();
	if (!w || !c)
		return TC_ACT_OK;
	__u32 port = skb->ifindex == c->ifindex[1];
	if (!port && skb->ifindex != c->ifindex[0]) {	/* not set up yet: no port of ours */
		count(C_NO_CONTROL, 1, 0);
		return TC_ACT_OK;
	}
	__builtin_memset(&w->p, 0, sizeof(w->p));
	w->name_len = 0;
	w->p.port = port;
	w->p.absent = !!absent;
	w->p.ns = bpf_ktime_get_coarse_ns();
	w->p.now_s = seconds(w->p.ns);
	w->p.gen = READ_ONCE(c->gen);
	w->p.features = c->features;
	decide(skb);
	return act(skb);
}
