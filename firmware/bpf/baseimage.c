// SPDX-License-Identifier: EUPL-1.2
#define _GNU_SOURCE
#include "baseimage.h"

#include <bpf/bpf.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/types.h>
#include <openssl/evp.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "layout.h"
#include "options.h"
#include "verdicts.h"

#define IMAGE_PAGES_MAX (1u << 16)	/* 256 MiB */

const char *image_map(const char *path, struct image *out)
{
	struct stat st;
	uint8_t digest[EVP_MAX_MD_SIZE];
	unsigned int len;
	int fd = open(path, O_RDONLY | O_CLOEXEC);

	if (fd < 0)
		return strerror(errno);
	if (fstat(fd, &st) || !S_ISREG(st.st_mode) || st.st_size < 2 * PAGE_BYTES || st.st_size % PAGE_BYTES ||
	    st.st_size / PAGE_BYTES > IMAGE_PAGES_MAX) {
		close(fd);
		return "not a file of whole pages of a sensible size";
	}
	void *bytes = mmap(0, st.st_size, PROT_READ, MAP_PRIVATE, fd, 0);
	close(fd);
	if (bytes == MAP_FAILED)
		return strerror(errno);
	const struct image_header *h = bytes;
	const char *wrong = 0;
	if (h->magic != IMAGE_MAGIC || h->version != 1)
		wrong = "not a base image of version 1";
	else if (h->kind != 0 || (off_t)h->pages * PAGE_BYTES != st.st_size)
		wrong = "truncated, or not a base";
	else if (!EVP_Digest((char *)bytes + PAGE_BYTES, st.st_size - PAGE_BYTES, digest, &len, EVP_sha256(), 0) ||
		 len != sizeof(h->digest) || memcmp(digest, h->digest, len))
		wrong = "SHA-256 differs: the file is damaged";
	if (wrong) {
		munmap(bytes, st.st_size);
		return wrong;
	}
	*out = (struct image){ bytes, st.st_size, h->serial };
	return 0;
}

void image_pin(char *path, size_t room, unsigned slot)
{
	snprintf(path, room, "%s/v%d/image_%u", options.pin, LAYOUT_VERSION, slot);
}

int image_install(int images_fd, struct control *control, const struct image *image)
{
	LIBBPF_OPTS(bpf_map_create_opts, o, .map_flags = BPF_F_MMAPABLE | BPF_F_INNER_MAP);
	__u32 slot = control->gen & 1, id;
	char path[640];

	if (!bpf_map_lookup_elem(images_fd, &slot, &id))
		return 0;
	int fd = bpf_map_create(BPF_MAP_TYPE_ARRAY, "image_base", 4, PAGE_BYTES, image->size / PAGE_BYTES, &o);
	void *to = fd < 0 ? MAP_FAILED : mmap(0, image->size, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	int failed = to == MAP_FAILED;
	if (!failed) {
		memcpy(to, image->bytes, image->size);
		munmap(to, image->size);
		image_pin(path, sizeof(path), slot);
		unlink(path);
		failed = bpf_obj_pin(fd, path) || bpf_map_update_elem(images_fd, &slot, &fd, BPF_ANY);
	}
	if (failed)	/* a line without a base is better than no line */
		fprintf(stderr, "vigie-early: a base of %zu bytes cannot be put in force: %s\n", image->size, strerror(errno));
	if (fd >= 0)
		close(fd);
	if (failed)
		return 0;
	__atomic_store_n(&control->gen, control->gen + 4, __ATOMIC_SEQ_CST);
	return 1;
}
