// SPDX-License-Identifier: EUPL-1.2
#define _GNU_SOURCE
#include "ports.h"

#include <dirent.h>
#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define ARPHRD_ETHER_TEXT "1\n"

static int exists(const char *sysfs, const char *name, const char *file)
{
	char path[PATH_MAX];
	snprintf(path, sizeof(path), "%s/%s/%s", sysfs, name, file);
	return !access(path, F_OK);
}

static int is_ethernet(const char *sysfs, const char *name)
{
	char path[PATH_MAX], type[8] = "";
	snprintf(path, sizeof(path), "%s/%s/type", sysfs, name);
	FILE *file = fopen(path, "re");
	if (!file)
		return 0;
	char *read = fgets(type, sizeof(type), file);
	fclose(file);
	return read && !strcmp(type, ARPHRD_ETHER_TEXT);
}

/* The device's real path, and its port on it where one device has several. 0 when there is none. */
static int place_of(const char *sysfs, const char *name, struct port *out)
{
	char path[PATH_MAX], real[PATH_MAX], number[16] = "0";

	snprintf(path, sizeof(path), "%s/%s/device", sysfs, name);
	if (!realpath(path, real))
		return 0;
	snprintf(path, sizeof(path), "%s/%s/dev_port", sysfs, name);
	FILE *file = fopen(path, "re");
	if (file) {
		if (!fgets(number, sizeof(number), file))
			strcpy(number, "0");
		fclose(file);
	}
	return snprintf(out->place, sizeof(out->place), "%s#%04d", real, atoi(number)) < (int)sizeof(out->place);
}

static int by_place(const void *a, const void *b)
{
	const struct port *first = a, *second = b;
	int order = strcmp(first->place, second->place);
	return order ? order : strcmp(first->name, second->name);
}

int find_ports(const char *sysfs, const char *bridge, struct port found[PORTS_MAX])
{
	DIR *folder = opendir(sysfs);
	struct dirent *entry;
	int count = 0;

	if (!folder)
		return -errno;
	while (count < PORTS_MAX && (entry = readdir(folder))) {
		const char *name = entry->d_name;
		if (name[0] == '.' || strlen(name) >= IFNAMSIZ || !strcmp(name, bridge))
			continue;
		if (!is_ethernet(sysfs, name) || exists(sysfs, name, "wireless") || exists(sysfs, name, "phy80211"))
			continue;
		if (!place_of(sysfs, name, &found[count]))
			continue;
		strcpy(found[count++].name, name);
	}
	closedir(folder);
	qsort(found, count, sizeof(*found), by_place);
	return count;
}
