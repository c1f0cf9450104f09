// SPDX-License-Identifier: EUPL-1.2
#include "netlink.h"

#include <errno.h>
#include <linux/if_ether.h>
#include <linux/if_link.h>
#include <linux/rtnetlink.h>
#include <net/if.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

/* LLDP (01:80:c2:00:00:0e) and EAPOL (:03) cross the box; BPDUs do without a bit, as the bridge runs no STP. */
#define GROUP_FWD_MASK ((1 << 14) | (1 << 3))

struct request {
	struct nlmsghdr h;
	struct ifinfomsg i;
	char attributes[512];
};

static void *put(struct request *r, unsigned short type, const void *data, unsigned short len)
{
	struct rtattr *a = (void *)((char *)r + NLMSG_ALIGN(r->h.nlmsg_len));
	a->rta_type = type;
	a->rta_len = RTA_LENGTH(len);
	if (len)
		memcpy(RTA_DATA(a), data, len);
	r->h.nlmsg_len = NLMSG_ALIGN(r->h.nlmsg_len) + RTA_ALIGN(a->rta_len);
	return a;
}

static void end(struct request *r, struct rtattr *nest)
{
	nest->rta_len = (char *)r + r->h.nlmsg_len - (char *)nest;
}

static void put_u8(struct request *r, unsigned short type, uint8_t v) { put(r, type, &v, sizeof(v)); }
static void put_u16(struct request *r, unsigned short type, uint16_t v) { put(r, type, &v, sizeof(v)); }
static void put_u32(struct request *r, unsigned short type, uint32_t v) { put(r, type, &v, sizeof(v)); }

static void start(struct request *r, int type, int flags, int ifindex)
{
	memset(r, 0, sizeof(*r));
	r->h.nlmsg_len = NLMSG_LENGTH(sizeof(r->i));
	r->h.nlmsg_type = type;
	r->h.nlmsg_flags = NLM_F_REQUEST | flags;
	r->h.nlmsg_seq = 1;
	r->i.ifi_index = ifindex;
}

/* Sends and reads one answer of at most `room` bytes. Returns its length, or a negative errno. */
static int converse(struct request *r, void *answer, int room)
{
	struct sockaddr_nl kernel = { .nl_family = AF_NETLINK };
	struct timeval limit = { .tv_sec = 5 };
	int fd = socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_ROUTE), n;

	if (fd < 0)
		return -errno;
	setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof(limit));
	if (sendto(fd, r, r->h.nlmsg_len, 0, (void *)&kernel, sizeof(kernel)) < 0)
		n = -errno;
	else
		n = recv(fd, answer, room, 0);
	if (n < 0)
		n = -errno;
	close(fd);
	return n;
}

static int change(struct request *r)
{
	struct { struct nlmsghdr h; struct nlmsgerr e; char rest[1024]; } answer;
	r->h.nlmsg_flags |= NLM_F_ACK;
	int n = converse(r, &answer, sizeof(answer));
	if (n < 0)
		return n;
	if (n < (int)sizeof(answer.h) || answer.h.nlmsg_type != NLMSG_ERROR)
		return -EPROTO;
	return answer.e.error;
}

int nl_bridge_create(const char *name)
{
	struct request r;
	int known = if_nametoindex(name);

	start(&r, RTM_NEWLINK, known ? 0 : NLM_F_CREATE | NLM_F_EXCL, known);
	if (!known)
		put(&r, IFLA_IFNAME, name, strlen(name) + 1);
	struct rtattr *info = put(&r, IFLA_LINKINFO, 0, 0);
	put(&r, IFLA_INFO_KIND, "bridge", 6);
	struct rtattr *data = put(&r, IFLA_INFO_DATA, 0, 0);
	put_u32(&r, IFLA_BR_STP_STATE, 0);
	put_u32(&r, IFLA_BR_FORWARD_DELAY, 0);
	put_u8(&r, IFLA_BR_MCAST_SNOOPING, 0);
	put_u16(&r, IFLA_BR_GROUP_FWD_MASK, GROUP_FWD_MASK);
	end(&r, data);
	end(&r, info);
	return change(&r);
}

int nl_no_address(int ifindex)
{
	struct request r;

	start(&r, RTM_NEWLINK, 0, ifindex);
	struct rtattr *families = put(&r, IFLA_AF_SPEC, 0, 0);
	struct rtattr *family = put(&r, AF_INET6, 0, 0);
	put_u8(&r, IFLA_INET6_ADDR_GEN_MODE, IN6_ADDR_GEN_MODE_NONE);
	end(&r, family);
	end(&r, families);
	int error = change(&r);
	return error == -EAFNOSUPPORT || error == -EOPNOTSUPP ? 0 : error;	/* a kernel without IPv6 */
}

int nl_set_master(int ifindex, int master)
{
	struct request r;
	start(&r, RTM_NEWLINK, 0, ifindex);
	put_u32(&r, IFLA_MASTER, master);
	return change(&r);
}

int nl_set_mac(int ifindex, const uint8_t mac[6])
{
	struct request r;
	start(&r, RTM_NEWLINK, 0, ifindex);
	put(&r, IFLA_ADDRESS, mac, 6);
	return change(&r);
}

int nl_set_up(int ifindex)
{
	struct request r;
	start(&r, RTM_NEWLINK, 0, ifindex);
	r.i.ifi_flags = r.i.ifi_change = IFF_UP;
	return change(&r);
}

int nl_read_link(int ifindex, uint8_t mac[6], uint32_t *mtu)
{
	struct request r;
	static char answer[16384];
	struct nlmsghdr *h = (void *)answer;

	start(&r, RTM_GETLINK, 0, ifindex);
	int n = converse(&r, answer, sizeof(answer));
	if (n < 0)
		return n;
	if (!NLMSG_OK(h, (unsigned)n) || h->nlmsg_type != RTM_NEWLINK)
		return -ENODEV;
	struct ifinfomsg *i = NLMSG_DATA(h);
	int left = h->nlmsg_len - NLMSG_LENGTH(sizeof(*i));
	for (struct rtattr *a = IFLA_RTA(i); RTA_OK(a, left); a = RTA_NEXT(a, left)) {
		if (a->rta_type == IFLA_ADDRESS && RTA_PAYLOAD(a) == 6)
			memcpy(mac, RTA_DATA(a), 6);
		if (a->rta_type == IFLA_MTU && RTA_PAYLOAD(a) == 4)
			memcpy(mtu, RTA_DATA(a), 4);
	}
	return 0;
}
