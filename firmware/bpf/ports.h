/* SPDX-License-Identifier: EUPL-1.2 */
/* Which two interfaces the box bridges when nobody names them. */
#pragma once
#include <net/if.h>

#define PORTS_MAX 16

struct port {
	char name[IFNAMSIZ];
	char place[512];	/* real path of its device: the place on the bus, the same at every start */
};

/* Fills `found` with the Ethernet interfaces below `sysfs` (/sys/class/net) that have a device behind them and no radio,
 * sorted by their place on the bus. Members of `bridge` count too: a second start finds the same ports.
 * Returns how many, or a negative errno. */
int find_ports(const char *sysfs, const char *bridge, struct port found[PORTS_MAX]);
