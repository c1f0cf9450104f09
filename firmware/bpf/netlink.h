/* SPDX-License-Identifier: EUPL-1.2 */
/* The few rtnetlink requests of the early loader: make a bridge, put a device into it, set it up. */
#pragma once
#include <stdint.h>

/* Each returns 0 or a negative errno. */
int nl_bridge_create(const char *name);			/* with the settings of the box; existing one: settings only */
int nl_no_address(int ifindex);				/* no IPv6 link-local address of its own accord */
int nl_set_master(int ifindex, int master);
int nl_set_mac(int ifindex, const uint8_t mac[6]);
int nl_set_up(int ifindex);
int nl_read_link(int ifindex, uint8_t mac[6], uint32_t *mtu);
