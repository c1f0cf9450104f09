// SPDX-License-Identifier: GPL-2.0-only
/* Generator and sink of the data path's benchmarks. `generate` runs as XDP live frames (BPF_PROG_RUN): each copy of
 * the template gets its own fields and enters the stack at the device of the context, as if received there.
 */
#include <linux/bpf.h>
#include <linux/pkt_cls.h>
#include <linux/types.h>
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_endian.h>

#define LIST_MAX (1u << 20)

enum field_mode { FIELD_NONE = 0, FIELD_SEQUENCE = 1, FIELD_RANDOM = 2, FIELD_LIST = 3, FIELD_DIGITS = 4 };

/* What to write: `mode` at `offset`; values 0..modulus-1 added to `base` (u16 or u32 by `width`). */
struct field { __u32 mode, offset, width, modulus, base, pad; };
struct plan { struct field field[3]; __u64 counter; __u8 template[96]; };	/* the frame's first bytes */

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct plan);
} plan SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, LIST_MAX);
	__uint(map_flags, BPF_F_MMAPABLE);
	__type(key, __u32);
	__type(value, __u64);
} list SEC(".maps");

static __always_inline __u32 mix(__u64 n)
{
	n *= 0x9e3779b97f4a7c15ull;
	n ^= n >> 29;
	n *= 0xbf58476d1ce4e5b9ull;
	return n >> 32;
}

static __always_inline int put(struct xdp_md *ctx, const struct field *f, __u64 n)
{
	__u32 at = f->offset & 255, value;

	if (f->mode == FIELD_SEQUENCE || f->mode == FIELD_DIGITS) {
		value = f->base + (__u32)(f->modulus ? n % f->modulus : n);
	} else if (f->mode == FIELD_RANDOM) {
		value = mix(n);
	} else if (f->mode == FIELD_LIST) {
		__u32 i = (f->modulus ? mix(n) % f->modulus : 0) & (LIST_MAX - 1);
		__u64 *v = bpf_map_lookup_elem(&list, &i);
		value = v ? *v : 0;
	} else {
		return 0;
	}
	if (f->mode == FIELD_DIGITS) {
		__u8 text[6];
		for (int i = 5; i >= 0; i--) {
			text[i] = '0' + value % 10;
			value /= 10;
		}
		return bpf_xdp_store_bytes(ctx, at, text, 6);
	}
	if (f->width == 2) {
		__be16 v = bpf_htons(value);
		return bpf_xdp_store_bytes(ctx, at, &v, 2);
	}
	__be32 v = bpf_htonl(value);
	return bpf_xdp_store_bytes(ctx, at, &v, 4);
}

SEC("xdp")
int generate(struct xdp_md *ctx)
{
	__u32 zero = 0;
	struct plan *p = bpf_map_lookup_elem(&plan, &zero);
	if (!p)
		return XDP_ABORTED;
	__u64 n = p->counter++;
	/* a recycled frame still carries what was made of it: NXDOMAIN, RST ... */
	if (bpf_xdp_store_bytes(ctx, 0, p->template, 60))
		return XDP_ABORTED;
	if (ctx->data_end - ctx->data >= 96 && bpf_xdp_store_bytes(ctx, 0, p->template, 96))
		return XDP_ABORTED;
	if (put(ctx, &p->field[0], n) || put(ctx, &p->field[1], n) || put(ctx, &p->field[2], n))
		return XDP_ABORTED;
	return XDP_PASS;
}

SEC("tc")
int empty(struct __sk_buff *skb)
{
	return TC_ACT_OK;
}

SEC("tc")
int sink(struct __sk_buff *skb)
{
	return TC_ACT_SHOT;
}

char LICENSE[] SEC("license") = "GPL";
