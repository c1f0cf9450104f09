/* SPDX-License-Identifier: EUPL-1.2 */
/* The first base: a file that proves whole, and its way into the data path. */
#pragma once
#include <stddef.h>
#include <stdint.h>

struct control;

struct image { void *bytes; size_t size; uint64_t serial; };

/* Size, magic, SHA-256. NULL, or why the file is no image that may be used. */
const char *image_map(const char *path, struct image *out);

/* Where the image of a slot is pinned: who has no CAP_SYS_ADMIN finds it again by its pin alone (vigie.filter.imagepins). */
void image_pin(char *path, size_t room, unsigned slot);

/* Puts the image into the slot that the generation names, when that slot is empty. 1 done, 0 there was one, or it cannot be. */
int image_install(int images_fd, struct control *control, const struct image *image);
