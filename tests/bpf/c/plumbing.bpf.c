/* SPDX-License-Identifier: GPL-2.0-only */
/* The maps of layout.h with programs that do next to nothing: what the Python plumbing is tested
 * against, apart from the policy of the real data path. `vigie_ingress` passes, counts and reports
 * each frame; the first payload byte steers it where a test needs more. */
#include "maps.h"

char _license[] SEC("license") = "GPL";

#define AT_PAYLOAD 14		/* right behind the Ethernet header */
#define CMD_PAGE 1		/* look: magic and serial of both slots' images against the generation */
#define CMD_DISCARD 2		/* a discarded record, then a real one */
#define CMD_BLOCK 3

struct record { struct event e; __u8 payload[64]; };

/* The tests write the serial of the header again at the start of the last page: a mixture of two images shows. */
static __always_inline int look(__u32 gen, struct decision *d)
{
	__u32 slot = gen & 1, zero = 0, last;
	void *image = bpf_map_lookup_elem(&images, &slot);
	struct image_header *h;
	__u64 *p;

	if (!image)
		return -1;
	h = bpf_map_lookup_elem(image, &zero);
	if (!h || h->magic != IMAGE_MAGIC)
		return -1;
	last = h->pages - 1;
	p = bpf_map_lookup_elem(image, &last);
	if (!p || *p != h->serial)
		return -1;
	d->name_hash = h->serial;
	return 0;
}

SEC("tc")
int vigie_ingress(struct __sk_buff *skb)
{
	__u32 zero = 0;
	struct control *c = bpf_map_lookup_elem(&control, &zero);
	struct decision *d = bpf_map_lookup_elem(&decision, &zero);
	struct record *r;
	__u8 head[16] = {};
	__u8 command;

	if (!c || !d)
		return TC_ACT_OK;
	if (bpf_skb_load_bytes(skb, 0, head, sizeof(head)))
		return TC_ACT_OK;
	command = head[AT_PAYLOAD];
	d->gen = c->gen;
	d->verdict = V_PASS;
	d->reason = R_DEFAULT;
	d->kind = skb->ifindex == c->ifindex[1];
	if (command == CMD_PAGE && look(d->gen, d)) {
		d->reason = C_NO_BASE;
		count(C_NO_BASE, 1, skb->len);
	}
	if (command == CMD_BLOCK)
		d->reason = R_TOXIC_ADDRESS;
	count(d->reason, 1, skb->len);
	if (command == CMD_DISCARD) {
		r = bpf_ringbuf_reserve(&events, sizeof(*r), 0);
		if (r)
			bpf_ringbuf_discard(r, 0);
	}
	if (!c->event_rate[E_BLOCKED])
		return TC_ACT_OK;
	r = bpf_ringbuf_reserve(&events, sizeof(*r), 0);
	if (!r) {
		count(C_EVENT_FULL, 1, skb->len);
		return TC_ACT_OK;
	}
	__builtin_memset(r, 0, sizeof(*r));
	r->e.ns = bpf_ktime_get_ns();
	r->e.kind = E_BLOCKED;
	r->e.reason = d->reason;
	r->e.gen = c->gen;
	r->e.port = d->kind;
	r->e.frame_len = skb->len;
	r->e.payload_len = 2;
	r->e.vlan = 0xffff;
	__builtin_memcpy(r->e.dmac, head, 6);
	__builtin_memcpy(r->e.smac, head + 6, 6);
	r->payload[0] = command;
	r->payload[1] = head[15];
	bpf_ringbuf_submit(r, 0);
	return command == CMD_BLOCK ? TC_ACT_SHOT : TC_ACT_OK;
}

SEC("tc")
int vigie_own(struct __sk_buff *skb)
{
	count(R_OWN, 1, skb->len);
	return TC_ACT_OK;
}

SEC("tc")
int vigie_empty(struct __sk_buff *skb)
{
	return TC_ACT_OK;
}

/* Touches the maps that the other programs do not, so that every one of them is in the object. */
SEC("tc")
int vigie_touch(struct __sk_buff *skb)
{
	struct exception_key ek = {};
	struct local_name_key nk = {};
	struct mac_key mk = {};
	struct dynamic_key dk = {};
	struct inbound_key ik = {};
	struct class_policy_key ck = {};
	struct essential_port_key pk = {};
	struct flow_key fk = {};
	struct addr a = {};
	__u32 zero = 0;
	int n = 0;

	n += !!bpf_map_lookup_elem(&exceptions, &ek) + !!bpf_map_lookup_elem(&local_names, &nk);
	n += !!bpf_map_lookup_elem(&quarantine, &mk) + !!bpf_map_lookup_elem(&dynamic, &dk);
	n += !!bpf_map_lookup_elem(&inbound_allow, &ik) + !!bpf_map_lookup_elem(&device_class, &mk);
	n += !!bpf_map_lookup_elem(&class_policy, &ck) + !!bpf_map_lookup_elem(&essential_ports, &pk);
	n += !!bpf_map_lookup_elem(&resolved, &a) + !!bpf_map_lookup_elem(&macs, &mk);
	n += !!bpf_map_lookup_elem(&own, &fk) + !!bpf_map_lookup_elem(&state, &zero);
	n += !!bpf_map_lookup_elem(&flows, &zero) + !!bpf_map_lookup_elem(&openers, &zero);
	n += bpf_ringbuf_query(&held, BPF_RB_AVAIL_DATA) > 0;
	return n;
}

SEC("xdp")
int vigie_pass(struct xdp_md *ctx)
{
	return XDP_PASS;
}
