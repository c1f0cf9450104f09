// SPDX-License-Identifier: EUPL-1.2
#include "options.h"

#include <net/if.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct options options = {
	.object = "/usr/lib/vigie/filter.bpf.o", .pin = "/sys/fs/bpf/vigie", .bridge = "br0",
	.sysfs = "/sys/class/net", .wait = 10,
};

static void __attribute__((noreturn)) usage(void)
{
	fputs("usage: vigie-early --ports A,B|auto [--bridge NAME] [--object FILE] [--pin DIR] [--image FILE]...\n"
	      "                   [--owner USER] [--plain] [--report FILE] [--kmsg] [--wait SECONDS] [--sysfs DIR]\n", stderr);
	exit(2);
}

static int flag(const char *word)
{
	if (!strcmp(word, "--plain"))
		return options.plain = 1;
	if (!strcmp(word, "--kmsg"))
		return options.kmsg = 1;
	return 0;
}

static void read_ports(char *value)
{
	char *comma = strchr(value, ',');

	options.automatic = !strcmp(value, "auto");
	if (options.automatic)
		return;
	if (!comma)
		usage();
	*comma = 0;
	options.ports[0] = value;
	options.ports[1] = comma + 1;
}

void read_options(int argc, char **argv)
{
	const struct { const char *word, **value; } words[] = {
		{ "--bridge", &options.bridge }, { "--object", &options.object }, { "--pin", &options.pin },
		{ "--owner", &options.owner }, { "--report", &options.report }, { "--sysfs", &options.sysfs },
	};

	for (int i = 1; i < argc; i++) {
		unsigned w = 0;
		if (flag(argv[i]))
			continue;
		if (i + 1 >= argc)
			usage();
		char *value = argv[i + 1], *rest;
		while (w < sizeof(words) / sizeof(*words) && strcmp(argv[i], words[w].word))
			w++;
		if (w < sizeof(words) / sizeof(*words)) {
			*words[w].value = value;
		} else if (!strcmp(argv[i], "--ports")) {
			read_ports(value);
		} else if (!strcmp(argv[i], "--wait")) {
			options.wait = strtol(value, &rest, 10);
			if (*rest || rest == value || options.wait < 0 || options.wait > 600)
				usage();
		} else if (!strcmp(argv[i], "--image") && options.image_count < IMAGES_MAX) {
			options.images[options.image_count++] = value;
		} else {
			usage();
		}
		i++;
	}
	if (strlen(options.bridge) >= IFNAMSIZ)
		usage();
	if (!options.automatic && (!options.ports[0] || !strcmp(options.ports[0], options.ports[1])))
		usage();
}
