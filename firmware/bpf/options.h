/* SPDX-License-Identifier: EUPL-1.2 */
/* The early loader's command line (loader.c says what each word means). */
#pragma once

#define IMAGES_MAX 4

struct options {
	const char *object, *pin, *bridge, *ports[2], *images[IMAGES_MAX], *owner, *report, *sysfs;
	int image_count, automatic, plain, kmsg, wait;
};

extern struct options options;

/* Fills `options`; a wrong word ends the program with 2. */
void read_options(int argc, char **argv);
