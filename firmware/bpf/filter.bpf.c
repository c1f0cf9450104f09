// SPDX-License-Identifier: GPL-2.0-only
/* The data path. docs/datapath.md says what is decided and in which order; this file says when.
 *
 * vigie_ingress tries the flow cache with a parser for the plain case first (fast), and gives everything else
 * to the whole decision (decide), whose packet stands in a per-CPU scratch area so that each part is a function
 * that the verifier checks once.
 */
#include "resolve.h"

char LICENSE[] SEC("license") = "GPL";

/* ---- helpers of the whole decision ---- */

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

/* Frames that look the cache up: with ports, and not ICMP that belongs to no exchange. */
static __always_inline int cacheable(const struct pkt *p)
{
	if (!p->ports_ok || p->fragment == LATER_FRAGMENT)
		return 0;
	if (p->proto == (p->family == 6 ? PROTO_ICMP6 : PROTO_ICMP))
		return icmp_is_echo(p->family, p->sport);
	return 1;
}

/* Port (INIT_PORT0/1) that opened the flow, or INIT_UNKNOWN. Sets p->recalled when memory says it was the receiver. */
static __always_inline __u32 find_opener(struct pkt *p, const struct control *c, const struct flow *f)
{
	__u32 sender = p->port + 1, receiver = 2 - p->port;
	int icmp = p->proto == (p->family == 6 ? PROTO_ICMP6 : PROTO_ICMP);
	if (bare_syn(p))
		return sender;
	if (f && flow_opener(f->flags))
		return flow_opener(f->flags);
	if (cacheable(p)) {
		__u32 opener = opener_recall(opener_hash(&p->key, c->flow_seed), p->now_s, p->proto == PROTO_TCP ? KNOWN_TCP_S : KNOWN_S);
		p->recalled = opener == receiver;
		if (opener)
			return opener;
	}
	if (p->proto == PROTO_TCP)
		return p->ports_ok && (p->tcp_flags & (TCP_SYN | TCP_ACK)) == (TCP_SYN | TCP_ACK) ? receiver : INIT_UNKNOWN;
	if (icmp && (!p->ports_ok || icmp_is_error(p->family, p->sport) || p->sport == (p->family == 6 ? 129 : 0)))
		return INIT_UNKNOWN;
	return sender;
}

/* Gate 6: may this packet reach the box itself? */
static __always_inline int for_box(struct pkt *p, const struct control *c)
{
	struct flow_key k = { .a = p->dst, .b = p->src, .pa = p->key.pa, .pb = p->key.pb, .proto = p->proto,
			      .family = p->family, .vlan = 0xffff };
	int icmp = p->proto == (p->family == 6 ? PROTO_ICMP6 : PROTO_ICMP);

	if (p->port) {	/* key.a is the end behind port 0: here the box's */
		k.pa = p->key.pa;
		k.pb = p->key.pb;
	} else {
		k.pa = p->key.pb;
		k.pb = p->key.pa;
	}
	if (bpf_map_lookup_elem(&own, &k))
		return 1;
	if (!p->ports_ok)
		return 0;
	if (p->family == 6 && icmp && icmp6_is_local(p))
		return 1;
	if (p->proto == PROTO_UDP && ((p->sport == 67 && p->dport == 68) ||
				      (p->sport == 547 && p->dport == 546 && link_local(&p->src, p->family))))
		return 1;
	if (icmp && icmp_is_error(p->family, p->sport))
		return 1;
	if (c->wan_port < 0 || (__s32)p->port == c->wan_port || !on_link(c, &p->src, p->family))
		return 0;
	if (icmp && p->sport == (p->family == 6 ? 128 : 8))
		return 1;
	for (__u32 i = 0; i < BOX_PORT_MAX; i++) {
		if (i >= c->box_port_count)
			break;
		if (c->box_port[i].proto == p->proto && c->box_port[i].port == p->dport)
			return 1;
	}
	return 0;
}

static __always_inline int arp_claims_box(struct __sk_buff *skb, const struct pkt *p, const struct control *c)
{
	struct addr sender;
	__be32 spa;
	if (bpf_skb_load_bytes(skb, p->l3 + 14, &spa, 4))
		return 0;
	addr_from4(&sender, spa);
	return is_box_address(c, &sender);
}

static __always_inline int own_probe(struct __sk_buff *skb, const struct pkt *p, const struct control *c)
{
	struct { __be32 magic; __be64 nonce; } __attribute__((packed)) b;
	if (p->sport != TYPE_PROBE || bpf_skb_load_bytes(skb, p->l3, &b, sizeof(b)))
		return 0;
	return b.magic == bpf_htonl(PROBE_MAGIC) && b.nonce == bpf_cpu_to_be64(c->probe_nonce);
}

/* Gates 1 to 9: 1 when settled. */
__noinline int gates(struct __sk_buff *skb)
{
	struct work *w = scratch();
	struct control *c = settings();
	struct state *st = shared_state();
	if (!w || !c || !st)
		return 1;
	struct pkt *p = &w->p;
	__u64 box = *(const __u64 *)c->box_mac;
	int kind = parse(skb, p);

	if (kind == PARSED_SHORT)
		return settle(p, V_PASS, R_SHORT_FRAME);
	if (box && p->smac == box) {
		if (kind == PARSED_OTHER && own_probe(skb, p, c)) {
			st->probe_seen_ns[p->port & 1] = p->ns;
			settle(p, V_DROP, R_LOOP);
			event_packet(skb, E_PROBE, p->l3);
			return 1;
		}
		return settle(p, V_DROP, R_SPOOF);
	}
	if (c->loop_port == p->port + 1u)
		return settle(p, V_DROP, R_LOOP);
	learn_mac(p, st);
	if (p->moved)
		event_name(E_MAC_MOVED);
	if (p->anomaly == R_VLAN_DEPTH)
		return settle(p, V_DROP, R_VLAN_DEPTH);
	if (kind == PARSED_OTHER) {
		if (p->sport == TYPE_ARP && !p->anomaly && arp_claims_box(skb, p, c))
			return settle(p, V_DROP, R_SPOOF);
		settle(p, V_PASS, R_NOT_IP);
		if (p->sport == TYPE_ARP)
			event_packet(skb, E_NEIGHBOUR, p->l3);
		return 1;
	}
	p->side = c->wan_port < 0 ? SIDE_UNKNOWN : (__s32)p->port == c->wan_port ? SIDE_IN : SIDE_OUT;
	if (is_box_address(c, &p->src))
		return settle(p, V_DROP, R_SPOOF);
	if ((box && p->dmac == box) || is_box_address(c, &p->dst)) {
		if (for_box(p, c))
			return settle(p, V_PASS, R_OWN);
		return settle(p, V_DROP, R_NOT_FOR_BOX);
	}
	if (is_multicast(&p->dst, p->family)) {
		settle(p, V_PASS, R_MULTICAST);
		if (p->proto == PROTO_ICMP6 && p->family == 6 && p->ports_ok && p->sport == 134)
			event_packet(skb, E_ROUTER, p->l4);
		else if (p->proto == PROTO_ICMP6 && p->family == 6 && p->ports_ok && (p->sport == 135 || p->sport == 136))
			event_packet(skb, E_NEIGHBOUR, p->l4);
		else if (is_dhcp(p))
			event_packet(skb, E_DHCP, p->payload);
		else if (p->proto == PROTO_UDP && p->ports_ok &&
			 (p->dport == 5353 || p->dport == 1900 || p->dport == 3702 || p->dport == 5355))
			event_packet(skb, E_DISCOVERY, p->payload);
		return 1;
	}
	if (is_bad_source(&p->src, p->family))
		return settle(p, V_DROP, R_BAD_SOURCE);
	if (p->family == 6 && p->proto == PROTO_ICMP6 && p->ports_ok && icmp6_is_local(p) &&
	    !(p->side == SIDE_OUT && !on_link(c, &p->dst, 6))) {
		settle(p, V_PASS, R_LOCAL);
		if (p->sport == 134)
			event_packet(skb, E_ROUTER, p->l4);
		else if (p->sport == 135 || p->sport == 136)
			event_packet(skb, E_NEIGHBOUR, p->l4);
		return 1;
	}
	if (p->side != SIDE_UNKNOWN) {
		/* Both ends on the wrong side: the cables have just been exchanged, or somebody pretends so. */
		int wrong = p->side == SIDE_IN
			? in_link_prefix(c, &p->src) && !on_link(c, &p->dst, p->family) && !is_gateway_mac(c, p->smac)
			: in_link_prefix(c, &p->dst) && !on_link(c, &p->src, p->family);
		if (wrong)
			p->side = SIDE_UNKNOWN;
	}
	if (p->side != SIDE_UNKNOWN) {
		const struct addr *remote = remote_of(p);
		p->local = on_link(c, remote, p->family);
		if (p->local && p->side == SIDE_IN && is_gateway_mac(c, p->smac) &&
		    !(p->family == 6 && link_local(remote, 6)) && !is_gateway_address(c, remote))
			p->local = 0;
	}
	return 0;
}

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
	__u32 set = redirect_flags(p), clear = FL_REDIRECT0 | FL_REDIRECT1 | FL_LOCAL;

	if (p->local)
		set |= FL_LOCAL;
	if (!flow_opener(f->flags))
		set |= opener << FL_INIT_SHIFT;
	if (bare_syn(p)) {	/* the tuple is used anew */
		clear |= 0xffff0000u | FL_CLOSED | FL_ANSWERED | FL_HELLO | FL_HOLD | FL_NAMED | (3u << FL_INIT_SHIFT);
		set |= opener << FL_INIT_SHIFT;
		if (hello)
			set |= FL_HELLO;
		/* a second SYN under way must not move the place where the hello is expected */
		if ((f->flags & (FL_HELLO | FL_ANSWERED | FL_CLOSED)) != (FL_HELLO | FL_ANSWERED))
			f->hold_start_ms = p->seq;
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
	/* not over a verdict that userspace has written meanwhile (a server's name) */
	__sync_val_compare_and_swap(&f->meta, p->meta, meta_make(p->gen, p->verdict, p->reason, p->hash));
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
		taken = flow_victim(p->hash, p->now_s);
		f = flow_get(taken);
	}
	if (!f)
		return 0;
	__u32 flags = opener << FL_INIT_SHIFT | redirect_flags(p);
	if (p->local)
		flags |= FL_LOCAL;
	if (p->sport == 53 || p->dport == 53)
		flags |= FL_INSPECT;
	if (hello)
		flags |= FL_HELLO;
	flow_fill(f, p, flags, topo);
	if (taken >= 0)
		flow_publish_tag(taken, p->hash);
	if (bare_syn(p))
		f->hold_start_ms = p->seq;
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
	p->hash = flow_hash(&p->key, c->flow_seed);
	if (usable && !p->absent) {
		w->lookup = p->key;
		f = flow_get(flow_index(p->hash));
	}
	if (f) {
		p->meta = READ_ONCE(f->meta);
		p->known = flow_known(f, p->now_s, p->proto);
	}
	__u32 opener = find_opener(p, c, p->known ? f : 0);
	if (p->side != SIDE_UNKNOWN && opener)
		p->opener = opener == 2u - (__u32)c->wan_port ? 1 : 2;

	if (f && p->known && (f->flags & FL_NAMED) && meta_verdict(p->meta) == V_REFUSE && !bare_syn(p)) {
		settle(p, V_REFUSE, meta_reason(p->meta));
		p->class = f->class;
		p->cached = 1;
		WRITE_ONCE(f->meta, meta_make(p->gen, p->verdict, p->reason, p->hash));
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
		if ((f->flags & (FL_HELLO | FL_HOLD)) && p->payload_len && !p->fragment && flow_opener(f->flags) == p->port + 1u &&
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

/* ---- the fast path: plain IPv4/IPv6 TCP/UDP of a flow whose cached verdict is "pass" in this epoch ---- */

/* What fast() says besides a TC action. */
#define FAST_NO (-1)		/* not its case */
#define FAST_ABSENT (-2)	/* its case, and the cache has no entry for this key */

/* The key stands in five registers (struct flow_key word by word): storing fields and loading words would stall. */
/* A function of its own so that its stack does not add to that of the whole decision. */
__noinline int fast(struct __sk_buff *skb)
{
	struct control *c = settings();
	struct state *st = shared_state();
	if (!c || !st)
		return FAST_NO;
	__u32 port = skb->ifindex == c->ifindex[1];
	if (unlikely(!port && skb->ifindex != c->ifindex[0]))
		return FAST_NO;
	void *data = (void *)(long)skb->data, *end = (void *)(long)skb->data_end;
	__u64 src0, src1, dst0, dst1, w4;
	struct tcp_header *t;
	__u32 ports, len = skb->len, l4_bytes;
	__u8 proto, tcp_flags = 0;
	__u16 vlan = 0xffff;

	struct eth_header *eth = data;
	if (data + 54 > end)
		return FAST_NO;
	if (eth->type == bpf_htons(TYPE_IPV4)) {
		struct ip4_header *ip = data + ETH_BYTES;
		if (ip->vihl != 0x45 || (ip->frag & bpf_htons(0x3fff)))
			return FAST_NO;
		__u32 total = bpf_ntohs(ip->total);
		if (total > len - ETH_BYTES || total < 40)
			return FAST_NO;
		l4_bytes = total - 20;
		proto = ip->proto;
		t = data + ETH_BYTES + 20;
		src0 = dst0 = 0;
		src1 = bpf_htonl(0xffff) | (__u64)ip->src << 32;
		dst1 = bpf_htonl(0xffff) | (__u64)ip->dst << 32;
		w4 = 4ull << 40;
	} else if (eth->type == bpf_htons(TYPE_IPV6)) {
		struct ip6_header *ip = data + ETH_BYTES;
		if (data + ETH_BYTES + 40 + 20 > end || (*(__u8 *)ip >> 4) != 6)
			return FAST_NO;
		l4_bytes = bpf_ntohs(ip->payload);
		if (l4_bytes > len - ETH_BYTES - 40 || l4_bytes < 20)
			return FAST_NO;
		proto = ip->next;
		t = data + ETH_BYTES + 40;
		src0 = *(__u64 *)ip->src;
		src1 = *(__u64 *)(ip->src + 2);
		dst0 = *(__u64 *)ip->dst;
		dst1 = *(__u64 *)(ip->dst + 2);
		w4 = 6ull << 40;
	} else {
		return FAST_NO;
	}
	if (proto == PROTO_TCP) {
		__u32 offset = (t->offset >> 4) * 4;
		tcp_flags = t->flags & 0x3f;
		if (offset < 20 || offset > l4_bytes || (tcp_flags & (TCP_SYN | TCP_ACK)) == TCP_SYN)
			return FAST_NO;
	} else if (proto != PROTO_UDP) {
		return FAST_NO;
	}
	ports = bpf_ntohl(*(__u32 *)t);	/* source<<16 | destination */
	if (skb->vlan_present && (skb->vlan_tci & 0xfff))
		vlan = skb->vlan_tci & 0xfff;
	w4 |= (__u64)vlan << 48 | (__u64)proto << 32 | (port ? ports : (ports >> 16 | (__u64)(ports & 0xffff) << 16));

	__u64 w0 = port ? dst0 : src0, w1 = port ? dst1 : src1, w2 = port ? src0 : dst0, w3 = port ? src1 : dst1;
	__u64 hash = words_hash(w0, w1, w2, w3, w4, c->flow_seed);
	struct flow *f = flow_find(w0, w1, w2, w3, w4, hash);
	if (!f)
		return FAST_ABSENT;
	__u64 meta = READ_ONCE(f->meta);
	__u32 gen = READ_ONCE(c->gen), flags = f->flags;
	__u32 verdict = meta_verdict(meta);
	if (meta_epoch(meta) != gen || (verdict != V_PASS && verdict != V_OBSERVE) ||
	    (flags & (FL_INSPECT | FL_HOLD)) || !(flags & (port ? FL_REDIRECT0 : FL_REDIRECT1)) ||
	    f->topo != READ_ONCE(st->topo) || c->loop_port == port + 1)
		return FAST_NO;
	/* before its name is known, a flow is looked at in full, but for QUIC packets that carry no name (short header) */
	if ((flags & FL_HELLO) && (proto != PROTO_UDP || (*((__u8 *)t + 8) & 0xc0) == 0xc0))
		return FAST_NO;
	__u64 dmac = *(__u64 *)eth->dst & MAC_MASK, smac = *(__u64 *)eth->src & MAC_MASK;
	if (!macs_match(f, port, smac, dmac, c->wan_port, *(const __u64 *)c->box_mac))
		return FAST_NO;
	__u32 now_s = seconds(bpf_ktime_get_coarse_ns());
	__s32 age = now_s - f->last_s;
	if ((f->until_s && f->until_s <= now_s) || age >= KNOWN_S || ((flags & FL_CLOSED) && age >= CLOSED_S))
		return FAST_NO;

	__u32 segments = skb->gso_segs, wire = len;
	if (!segments)
		segments = 1;
	if (segments > 1) {
		__u32 header = (void *)t - data + (proto == PROTO_TCP ? (t->offset >> 4) * 4 : 8);
		wire += (segments - 1) * header;
	}
	flow_account(f, port, segments, wire, now_s, tcp_flags);
	if (unlikely(c->features & F_TRACE)) {
		__u32 zero = 0;
		struct decision *d = bpf_map_lookup_elem(&decision, &zero);
		if (d) {
			__builtin_memset(d, 0, sizeof(*d));
			d->verdict = verdict;
			d->reason = meta_reason(meta);
			d->class = f->class;
			d->cached = 2;
			d->gen = gen;
			d->direction = (flags & FL_LOCAL) || c->wan_port < 0 ? 0 : (__s32)port == c->wan_port ? SIDE_IN : SIDE_OUT;
		}
	}
	if (len - ETH_BYTES > c->mtu[!port] && !skb->gso_size)
		return TC_ACT_OK;
	return bpf_redirect(c->ifindex[!port], 0);
}

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
