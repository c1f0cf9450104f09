// SPDX-License-Identifier: EUPL-1.2
/* vigie-early: filtering before anything else runs.
 *
 *   vigie-early --ports A,B|auto [--bridge br0] [--object FILE] [--pin DIR] [--image FILE]... [--owner USER]
 *               [--plain] [--report FILE] [--kmsg] [--wait SECONDS] [--sysfs DIR]
 *
 * Loads the data path, gives it the first base image that proves whole (size, magic, SHA-256), attaches it to both
 * ports, and only then makes the bridge and sets it up: no frame is ever forwarded unfiltered. Maps are pinned where
 * `vigie filter` finds them (DIR/v<layout>/<map>), and belong to USER. Started again over a running data path it changes
 * nothing but what is missing. Parses nothing but the image's header.
 *
 * auto: the two Ethernet interfaces with hardware behind them (ports.h); waits at most SECONDS (10) for the second.
 * --plain: the bridge alone, and no program on the ports: the fail policy.
 * --report, --kmsg: what was done, as JSON in a file and as a line of the kernel's log. While ports are missing, there is
 *   FILE.waiting: who bridges plainly when this program fails must not do so when a port comes late.
 *
 * Exit: 0 in force; 3 in force without a base; 1 not in force (the message says why); 2 usage; 4 auto found no two ports.
 */
#define _GNU_SOURCE
#include <bpf/bpf.h>
#include <bpf/libbpf.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/if_link.h>
#include <linux/types.h>
#include <net/if.h>
#include <pwd.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <unistd.h>

#include "baseimage.h"
#include "layout.h"
#include "netlink.h"
#include "options.h"
#include "ports.h"
#include "talk.h"
#include "verdicts.h"

/* Pinned maps: the ones of layout.h, as vigie.filter.abi.MAPS (a test compares). The others are private. */
static const char *const pinned[] = {
	"control", "state", "images", "flows", "flow_tags", "holds", "openers", "exceptions", "local_names", "quarantine",
	"dynamic", "inbound_allow", "device_class", "class_policy", "essential_ports", "resolved", "macs", "own", "events",
	"held", "counters", "decision",
};

/* libbpf's own words help when the kernel refuses the object; elsewhere it complains of what is no fault here (a hook
 * that exists already). */
static int loud;

static int report(enum libbpf_print_level level, const char *format, va_list args)
{
	return loud && level == LIBBPF_WARN ? vfprintf(stderr, format, args) : 0;
}

/* ---- object, maps, programs ---- */

static void make_directory(const char *path)
{
	if (mkdir(path, 0700) && errno != EEXIST)
		die("%s: %s (is a bpf file system mounted there?)", path, strerror(errno));
}

static struct bpf_object *load_object(void)
{
	char dir[512], path[640];
	struct bpf_object *object = bpf_object__open_file(options.object, 0);

	if (!object)
		die("%s: cannot be opened: %s", options.object, strerror(errno));
	make_directory(options.pin);
	snprintf(dir, sizeof(dir), "%s/v%d", options.pin, LAYOUT_VERSION);
	make_directory(dir);
	for (unsigned i = 0; i < sizeof(pinned) / sizeof(*pinned); i++) {
		struct bpf_map *map = bpf_object__find_map_by_name(object, pinned[i]);
		snprintf(path, sizeof(path), "%s/%s", dir, pinned[i]);
		if (!map || bpf_map__set_pin_path(map, path))
			die("%s: map %s: %s", options.object, pinned[i], map ? strerror(errno) : "missing");
	}
	loud = 1;
	if (bpf_object__load(object))
		die("%s: the kernel refuses it: %s", options.object, strerror(errno));
	loud = 0;
	return object;
}

static int map_fd(struct bpf_object *object, const char *name)
{
	int fd = bpf_object__find_map_fd_by_name(object, name);
	if (fd < 0)
		die("map %s is missing", name);
	return fd;
}

static struct control *open_control(struct bpf_object *object)
{
	struct control *c = mmap(0, sizeof(*c), PROT_READ | PROT_WRITE, MAP_SHARED, map_fd(object, "control"), 0);
	if (c == MAP_FAILED)
		die("control cannot be mapped: %s", strerror(errno));
	if (c->layout && c->layout != LAYOUT_VERSION)
		die("pinned control is of layout %u, this program of %d", c->layout, LAYOUT_VERSION);
	if (!c->layout) {
		c->wan_port = -1;	/* unknown: both directions are judged by the base, the inbound default is off */
		c->hold_ms = 300;
		c->rate_out = 1000;
		c->rate_in = 100;
		for (int i = 0; i < EVENT_KINDS; i++)
			c->event_rate[i] = 500;
		c->gen = 4;
		__atomic_store_n(&c->layout, LAYOUT_VERSION, __ATOMIC_SEQ_CST);
	}
	while (!c->flow_seed)
		if (getrandom(&c->flow_seed, sizeof(c->flow_seed), 0) < 0)
			die("no randomness: %s", strerror(errno));
	return c;
}

static void attach(struct bpf_object *object, const char *program, int ifindex, enum bpf_tc_attach_point point)
{
	LIBBPF_OPTS(bpf_tc_hook, hook, .ifindex = ifindex, .attach_point = point);
	LIBBPF_OPTS(bpf_tc_opts, filter, .handle = 1, .priority = 1, .flags = BPF_TC_F_REPLACE);
	struct bpf_program *p = bpf_object__find_program_by_name(object, program);
	LIBBPF_OPTS(bpf_tc_hook, both, .ifindex = ifindex, .attach_point = BPF_TC_INGRESS | BPF_TC_EGRESS);

	if (!p)
		die("program %s is missing in %s", program, options.object);
	int e = bpf_tc_hook_create(&both);
	if (e && e != -EEXIST)
		die("device %d takes no programs: %s", ifindex, strerror(-e));
	filter.prog_fd = bpf_program__fd(p);
	e = bpf_tc_attach(&hook, &filter);
	if (e)
		die("%s does not attach to device %d: %s", program, ifindex, strerror(-e));
}

static void detach(int ifindex)
{
	LIBBPF_OPTS(bpf_tc_hook, both, .ifindex = ifindex, .attach_point = BPF_TC_INGRESS | BPF_TC_EGRESS);
	int e = bpf_tc_hook_destroy(&both);
	if (e && e != -ENOENT && e != -EINVAL)	/* there was none */
		die("device %d keeps its programs: %s", ifindex, strerror(-e));
}

/* `vigie filter` has no right to files of root: it gets the pins, and may pass through their file system, whose root
 * systemd closes (mode 0700). */
static void give_pins(const struct passwd *user)
{
	const unsigned maps = sizeof(pinned) / sizeof(*pinned);
	char path[640];
	struct stat st;

	for (unsigned i = 0; i < maps + 4; i++) {
		if (i < maps)
			snprintf(path, sizeof(path), "%s/v%d/%s", options.pin, LAYOUT_VERSION, pinned[i]);
		else if (i < maps + 2)
			image_pin(path, sizeof(path), i - maps);
		else
			snprintf(path, sizeof(path), i == maps + 2 ? "%s" : "%s/v%d", options.pin, LAYOUT_VERSION);
		int absent = stat(path, &st);
		if (absent && errno == ENOENT)
			continue;	/* an image */
		if (absent || (st.st_uid != user->pw_uid && chown(path, user->pw_uid, user->pw_gid)))
			die("%s: cannot be given to %s: %s", path, options.owner, strerror(errno));
	}
	snprintf(path, sizeof(path), "%s/..", options.pin);
	if (stat(path, &st) || ((st.st_mode & 0111) != 0111 && chmod(path, (st.st_mode & 07777) | 0111)))
		die("%s: cannot be opened for %s: %s", path, options.owner, strerror(errno));
}

/* ---- ports and bridge ---- */

static void step(int error, const char *what, const char *device)
{
	if (error)
		die("%s: %s: %s", device, what, strerror(-error));
}

static void waiting(int yes)
{
	char path[600];

	if (!options.report)
		return;
	snprintf(path, sizeof(path), "%s.waiting", options.report);
	if (yes)
		close(open(path, O_WRONLY | O_CREAT | O_CLOEXEC, 0644));
	else
		unlink(path);
}

/* Fills options.ports. A third port is left alone: nothing is bridged that nobody thought of. */
static void choose_ports(void)
{
	static struct port found[PORTS_MAX];
	int count = 0;

	for (double begin = now_ms(); ; usleep(50 * 1000)) {
		count = find_ports(options.sysfs, options.bridge, found);
		if (count < 0)
			die("%s: cannot be read: %s", options.sysfs, strerror(-count));
		if (count >= 2 || now_ms() - begin >= options.wait * 1e3)
			break;
	}
	waiting(count < 2);
	if (count < 2)
		end(4, "two Ethernet ports are needed, %s found within %d s",
		    count ? found[0].name : "none was", options.wait);
	for (int i = 2; i < count; i++) {
		fprintf(stderr, "vigie-early: port %s is left alone: %s and %s are the first two by their place on the bus\n",
			found[i].name, found[0].name, found[1].name);
		kernel_log("port %s is left alone", found[i].name);
	}
	options.ports[0] = found[0].name;
	options.ports[1] = found[1].name;
}

/* The bridge over both ports, forwarding when this returns. `object`: for the program on the bridge itself, or NULL.
 * mac: the first port's; one of the bridge's own accord would change with the ports. */
static void make_bridge(struct bpf_object *object, const int ifindex[2], const uint8_t mac[6])
{
	step(nl_bridge_create(options.bridge), "making the bridge", options.bridge);
	int bridge = if_nametoindex(options.bridge);
	if (object)
		attach(object, "vigie_own", bridge, BPF_TC_EGRESS);
	else
		detach(bridge);
	for (int i = 0; i < 2; i++) {
		step(nl_no_address(ifindex[i]), "keeping addresses away", options.ports[i]);
		step(nl_set_master(ifindex[i], bridge), "joining the bridge", options.ports[i]);
	}
	step(nl_set_mac(bridge, mac), "setting the MAC", options.bridge);
	step(nl_set_up(bridge), "setting up", options.bridge);
	for (int i = 0; i < 2; i++)
		step(nl_set_up(ifindex[i]), "setting up", options.ports[i]);
}

static int bridge_plainly(const int ifindex[2], const uint8_t mac[6], double begin)
{
	for (int i = 0; i < 2; i++)
		detach(ifindex[i]);
	make_bridge(NULL, ifindex, mac);
	tell("{\"early\": {\"plain\": true, \"ports\": [\"%s\", \"%s\"], \"forward_ms\": %.1f, \"at\": %.3f}}",
	     options.ports[0], options.ports[1], now_ms() - begin, now_ms() / 1e3);
	return 0;
}

int main(int argc, char **argv)
{
	double begin = now_ms();
	struct image image = {};
	struct passwd *owner = 0;
	uint32_t mtu[2] = {};
	uint8_t mac[6] = {}, first[6] = {};
	int ifindex[2];

	read_options(argc, argv);
	libbpf_set_print(report);
	if (options.owner && !(owner = getpwnam(options.owner)))
		die("there is no user %s", options.owner);
	if (options.automatic)
		choose_ports();
	for (int i = 0; i < 2; i++) {
		ifindex[i] = if_nametoindex(options.ports[i]);
		if (!ifindex[i])
			die("port %s does not exist", options.ports[i]);
		step(nl_read_link(ifindex[i], i ? mac : first, &mtu[i]), "reading the device", options.ports[i]);
	}
	if (options.plain)
		return bridge_plainly(ifindex, first, begin);
	for (int i = 0; i < options.image_count && !image.bytes; i++) {
		const char *wrong = image_map(options.images[i], &image);
		if (wrong)
			fprintf(stderr, "vigie-early: base image %s is left out: %s\n", options.images[i], wrong);
	}

	struct bpf_object *object = load_object();
	struct control *control = open_control(object);
	int images_fd = map_fd(object, "images"), fresh = 0;
	if (image.bytes)
		fresh = image_install(images_fd, control, &image);
	__u32 slot = control->gen & 1, id;
	int based = !bpf_map_lookup_elem(images_fd, &slot, &id);
	for (int i = 0; i < 2; i++) {
		control->ifindex[i] = ifindex[i];
		control->mtu[i] = mtu[i];
		attach(object, "vigie_ingress", ifindex[i], BPF_TC_INGRESS);
	}
	double filtering = now_ms();

	memcpy(control->box_mac, first, sizeof(first));	/* `vigie filter` gives the bridge the first port's too */
	make_bridge(object, ifindex, first);

	double forwarding = now_ms();
	if (owner)
		give_pins(owner);
	char serial[24] = "null";	/* of the base installed now; one that was in force before stays unread */
	if (fresh)
		snprintf(serial, sizeof(serial), "%llu", (unsigned long long)image.serial);
	tell("{\"early\": {\"base\": %s, \"serial\": %s, \"fresh\": %s, \"filter_ms\": %.1f, \"forward_ms\": %.1f, "
	     "\"ports\": [\"%s\", \"%s\"], \"at\": %.3f}}",
	     based ? "true" : "false", serial, fresh ? "true" : "false", filtering - begin, forwarding - begin,
	     options.ports[0], options.ports[1], forwarding / 1e3);
	return based ? 0 : 3;
}
