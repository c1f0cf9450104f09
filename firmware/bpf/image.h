/* SPDX-License-Identifier: GPL-2.0-only */
/* Look-ups in a base or geo image (layout.h): a bucket index, then a binary search inside the bucket. */
#pragma once
#include "maps.h"

/* A bucket of the index covers at most 2^32 >> 10 starts; real ones hold a few elements. */
#define SEARCH_STEPS 21
#define NAME_STEPS 10	/* hashes spread evenly: four to a bucket on average, never a thousand */

static __always_inline void *image_page(void *image, __u32 page)
{
	return bpf_map_lookup_elem(image, &page);
}

static __always_inline __u32 read_u8(void *image, const struct section *s, __u32 i)
{
	__u8 *p = image_page(image, s->page + (i >> 12));
	return p ? p[i & 4095] : 0;
}

static __always_inline __u32 read_u32(void *image, __u32 page, __u32 i)
{
	__u32 *p = image_page(image, page + (i >> 10));
	return p ? p[i & 1023] : 0;
}

static __always_inline __u64 read_u64(void *image, __u32 page, __u32 i)
{
	__u64 *p = image_page(image, page + (i >> 9));
	return p ? p[i & 511] : 0;
}

static __always_inline struct image_header *image_of(__u32 slot, void **image)
{
	void *m = bpf_map_lookup_elem(&images, &slot);
	if (!m)
		return 0;
	struct image_header *h = image_page(m, 0);
	if (!h || h->magic != IMAGE_MAGIC)
		return 0;
	*image = m;
	return h;
}

static __always_inline __u32 base_slot(__u32 gen)
{
	return gen & 1;
}

static __always_inline __u32 geo_slot(__u32 gen)
{
	return 2 + ((gen >> 1) & 1);
}

struct bucket_range { __u32 lo, hi; };

/* Elements of a bucket: two neighbouring words of the index, nearly always on one page. */
static __always_inline struct bucket_range read_bucket(void *image, __u32 page, __u32 bucket)
{
	struct bucket_range r = {};
	__u32 at = bucket & 1023;
	__u32 *p = image_page(image, page + (bucket >> 10));
	if (!p)
		return r;
	/* Kept from the compiler: clang 21 sees that the mask is needless below 1023, the verifier does not. */
	__u32 next = (at + 1) & 1023;
	asm volatile("" : "+r"(next));
	r.lo = p[at];
	r.hi = next ? p[next] : read_u32(image, page, bucket + 1);
	return r;
}

/* Last element with start <= key, or -1. A bucket's elements stand on one page or two: the page is kept. */
static __always_inline __s32 find4(void *image, struct image_header *h, __u32 key)
{
	struct bucket_range r = read_bucket(image, h->index4.page, key >> (h->shift4 & 31));
	__u32 lo = r.lo, hi = r.hi, starts = h->start4.page;

	if (!h->start4.count)	/* an empty section has no index either */
		return -1;
	__u32 on = lo >> 10;
	__u32 *p = image_page(image, starts + on);
	for (int i = 0; i < SEARCH_STEPS; i++) {
		if (lo >= hi)
			break;
		__u32 mid = lo + ((hi - lo) >> 1);
		if (mid >> 10 != on) {
			on = mid >> 10;
			p = image_page(image, starts + on);
		}
		if (!p)
			return -1;
		if (p[mid & 1023] <= key)
			lo = mid + 1;
		else
			hi = mid;
	}
	return (__s32)lo - 1;
}

static __always_inline __s32 find6(void *image, struct image_header *h, __u64 khi, __u64 klo)
{
	struct bucket_range r = read_bucket(image, h->index6.page, khi >> (h->shift6 & 63));
	__u32 lo = r.lo, hi = r.hi;

	if (!h->start6_hi.count)
		return -1;
	for (int i = 0; i < SEARCH_STEPS; i++) {
		if (lo >= hi)
			break;
		__u32 mid = lo + ((hi - lo) >> 1);
		__u64 start = read_u64(image, h->start6_hi.page, mid);
		int below = start < khi ||
			    (start == khi && read_u64(image, h->start6_lo.page, mid) <= klo);
		if (below)
			lo = mid + 1;
		else
			hi = mid;
	}
	return (__s32)lo - 1;
}

struct sorted_search { void *image; __u64 key; __u32 page, lo, hi; };

static long sorted_step(__u32 i, void *data)
{
	struct sorted_search *x = data;
	if (x->lo >= x->hi)
		return 1;
	__u32 mid = x->lo + ((x->hi - x->lo) >> 1);
	if (read_u64(x->image, x->page, mid) < x->key)
		x->lo = mid + 1;
	else
		x->hi = mid;
	return 0;
}

/* True when `key` stands in the sorted u64 section. */
static __always_inline int in_sorted(void *image, const struct section *s, __u64 key)
{
	struct sorted_search x = { .image = image, .key = key, .page = s->page, .hi = s->count };
	bpf_loop(32, sorted_step, &x, 0);
	return x.lo < s->count && read_u64(image, x.page, x.lo) == key;
}

/* Row `class` of the class table with the class: class<<40 | rank<<32 | category<<24 | action<<16 | direction<<8 | flags. */
static __always_inline __u64 class_row(void *image, __u32 class)
{
	struct class_entry *e = image_page(image, 1);
	if (!e || !class)
		return 0;
	e += class & 255;
	return (__u64)class << 40 | (__u64)e->rank << 32 | (__u64)e->category << 24 | (__u64)e->action << 16 |
	       (__u64)e->direction << 8 | e->flags;
}

#define NO_BASE (~0ull)

/* Class row of an IPv4 address (host order) in the base of this slot; 0 not listed, NO_BASE. */
__noinline __u64 base_class4(__u32 slot, __u32 address)
{
	void *image;
	struct image_header *h = image_of(slot, &image);
	if (!h)
		return NO_BASE;
	__s32 i = find4(image, h, address);
	if (i < 0 || read_u32(image, h->last4.page, i) < address)
		return 0;
	return class_row(image, read_u8(image, &h->class4, i));
}

__noinline __u64 base_class6(__u32 slot, __u64 hi, __u64 lo)
{
	void *image;
	struct image_header *h = image_of(slot, &image);
	if (!h)
		return NO_BASE;
	__s32 i = find6(image, h, hi, lo);
	if (i < 0)
		return 0;
	__u64 last = read_u64(image, h->last6_hi.page, i);
	if (last < hi || (last == hi && read_u64(image, h->last6_lo.page, i) < lo))
		return 0;
	return class_row(image, read_u8(image, &h->class6, i));
}

__noinline int base_port4(__u32 slot, __u32 address, __u32 port)
{
	void *image;
	struct image_header *h = image_of(slot, &image);
	return h ? in_sorted(image, &h->ports4, (__u64)address << 16 | (port & 0xffff)) : 0;
}

__noinline int base_port6(__u32 slot, __u64 hi, __u64 lo, __u32 port)
{
	void *image;
	struct image_header *h = image_of(slot, &image);
	return h ? in_sorted(image, &h->ports6, port6_key(hi, lo, port & 0xffff)) : 0;
}

/* AS number | country << 32 of an address; 0 unknown. */
__noinline __u64 geo_value4(__u32 slot, __u32 address)
{
	void *image;
	struct image_header *h = image_of(slot, &image);
	if (!h)
		return 0;
	__s32 i = find4(image, h, address);
	return i < 0 ? 0 : read_u64(image, h->value4.page, i);
}

__noinline __u64 geo_value6(__u32 slot, __u64 hi, __u64 lo)
{
	void *image;
	struct image_header *h = image_of(slot, &image);
	if (!h)
		return 0;
	__s32 i = find6(image, h, hi, lo);
	return i < 0 ? 0 : read_u64(image, h->value6.page, i);
}

/* Class row of a name hash (NAME_FINAL applied); 0 not listed. */
__noinline __u64 base_class_name(__u32 slot, __u64 hash)
{
	void *image;
	struct image_header *h = image_of(slot, &image);
	if (!h)
		return 0;
	struct bucket_range r = read_bucket(image, h->index_name.page, hash >> (h->shift_name & 63));
	__u32 lo = r.lo, hi = r.hi, page = h->hash_name.page;

	if (!h->hash_name.count)
		return 0;
	__u32 on = lo >> 9;
	__u64 *p = image_page(image, page + on);
	for (int i = 0; i < NAME_STEPS; i++) {
		if (lo >= hi)
			return 0;
		__u32 mid = lo + ((hi - lo) >> 1);
		if (mid >> 9 != on) {
			on = mid >> 9;
			p = image_page(image, page + on);
		}
		if (!p)
			return 0;
		__u64 v = p[mid & 511];
		if (v == hash)
			return class_row(image, read_u8(image, &h->class_name, mid));
		if (v < hash)
			lo = mid + 1;
		else
			hi = mid;
	}
	return 0;
}

static __always_inline __u8 class_flags(__u64 e) { return e; }
static __always_inline __u8 class_direction(__u64 e) { return e >> 8; }
static __always_inline __u8 class_action(__u64 e) { return e >> 16; }
static __always_inline __u8 class_category(__u64 e) { return e >> 24; }
static __always_inline __u8 class_rank(__u64 e) { return e >> 32; }
static __always_inline __u8 class_number(__u64 e) { return e >> 40; }
