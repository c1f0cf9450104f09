// SPDX-License-Identifier: EUPL-1.2
/* First program of the virtual board. Debian's kernel has as modules what the box's own kernel has built in; this does
 * what that kernel does by itself: load the drivers, make the dm-verity device that the command line describes
 * (dm-mod.create=, Documentation/admin-guide/device-mapper/dm-init.rst), mount it, hand over.
 *
 * /modules/list names the modules, one a line, in the order in which they load.
 * Any failure ends the program: the kernel panics (panic=5) and the boot loader has counted the attempt.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <linux/dm-ioctl.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#define DISK_WAIT_MS 20000
#define MBR_SIGNATURE_AT 440

static char command_line[4096];

static void say(const char *format, ...)
{
	char text[512];
	va_list args;
	va_start(args, format);
	int n = vsnprintf(text, sizeof(text), format, args);
	va_end(args);
	int fd = open("/dev/kmsg", O_WRONLY | O_CLOEXEC);
	if (fd >= 0) {
		if (write(fd, text, n) < 0)
			n = 0;
		close(fd);
	}
}

static void __attribute__((noreturn, format(printf, 1, 2))) die(const char *format, ...)
{
	char text[512];
	va_list args;
	va_start(args, format);
	vsnprintf(text, sizeof(text), format, args);
	va_end(args);
	say("<2>VIGIE: start refused: %s", text);
	exit(1);
}

static void load_modules(void)
{
	char name[256];
	FILE *list = fopen("/modules/list", "re");

	if (!list)
		die("/modules/list: %s", strerror(errno));
	while (fgets(name, sizeof(name), list)) {
		name[strcspn(name, "\n")] = 0;
		int fd = open(name, O_RDONLY | O_CLOEXEC);
		if (fd < 0)
			die("%s: %s", name, strerror(errno));
		if (syscall(SYS_finit_module, fd, "", 0) && errno != EEXIST)
			say("<4>VIGIE: %s: %s", name, strerror(errno));	/* a device that is not there is no failure */
		close(fd);
	}
	fclose(list);
}

/* "PARTUUID=76696769-05" of a disk with an MBR -> "254:5". */
static int find_partition(const char *uuid, char *out, size_t size)
{
	char path[32];
	unsigned signature, number;
	uint8_t found[4];
	struct stat st;

	if (sscanf(uuid, "PARTUUID=%8x-%2x", &signature, &number) != 2)
		die("%s is not the UUID of an MBR partition", uuid);
	for (char letter = 'a'; letter <= 'z'; letter++) {
		snprintf(path, sizeof(path), "/dev/vd%c", letter);
		int fd = open(path, O_RDONLY | O_CLOEXEC);
		if (fd < 0)
			continue;
		int whole = pread(fd, found, 4, MBR_SIGNATURE_AT) == 4;
		close(fd);
		if (!whole || (found[0] | found[1] << 8 | found[2] << 16 | (unsigned)found[3] << 24) != signature)
			continue;
		snprintf(path, sizeof(path), "/dev/vd%c%u", letter, number);
		if (stat(path, &st))
			continue;
		snprintf(out, size, "%u:%u", major(st.st_rdev), minor(st.st_rdev));
		return 1;
	}
	return 0;
}

static void wait_partition(const char *uuid, char *out, size_t size)
{
	for (int waited = 0; !find_partition(uuid, out, size); waited += 20) {
		if (waited > DISK_WAIT_MS)
			die("%s does not appear", uuid);
		usleep(20000);
	}
}

static void dm(int fd, unsigned long request, struct dm_ioctl *d, const char *what)
{
	d->version[0] = 4;
	snprintf(d->name, sizeof(d->name), "vigie-root");
	if (ioctl(fd, request, d))
		die("device-mapper, %s: %s", what, strerror(errno));
}

/* NAME,UUID,MINOR,FLAGS,START LENGTH TYPE PARAMETERS */
static void make_verity(void)
{
	static union { struct dm_ioctl d; char bytes[8192]; } u;
	static char table[2048], device[32];
	char *begin = strstr(command_line, "dm-mod.create=\""), *end;
	unsigned long long start, length;
	char type[DM_MAX_TYPE_NAME];
	int used = 0;

	if (!begin || !(end = strchr(begin += strlen("dm-mod.create=\""), '"')))
		die("no dm-mod.create= on the command line");
	*end = 0;
	for (int commas = 0; commas < 4; commas++)
		if (!(begin = strchr(begin, ',')) || !*++begin)
			die("dm-mod.create= is cut off");
	if (sscanf(begin, "%llu %llu %15s %n", &start, &length, type, &used) != 3 || !used)
		die("dm-mod.create= holds no table");
	for (char *word = strtok(begin + used, " "); word; word = strtok(0, " ")) {
		if (!strncmp(word, "PARTUUID=", 9)) {
			wait_partition(word, device, sizeof(device));
			word = device;
		}
		if (strlen(table) + strlen(word) + 2 > sizeof(table))
			die("the table is too long");
		strcat(strcat(table, *table ? " " : ""), word);
	}

	int fd = open("/dev/mapper/control", O_RDWR | O_CLOEXEC);
	if (fd < 0)
		die("/dev/mapper/control: %s", strerror(errno));
	u.d = (struct dm_ioctl){ .data_size = sizeof(u) };
	dm(fd, DM_DEV_CREATE, &u.d, "create");
	memset(&u, 0, sizeof(u));
	u.d.data_size = sizeof(u);
	u.d.data_start = sizeof(u.d);
	u.d.target_count = 1;
	u.d.flags = DM_READONLY_FLAG;
	struct dm_target_spec *target = (void *)(u.bytes + sizeof(u.d));
	target->sector_start = start;
	target->length = length;
	strcpy(target->target_type, type);
	strcpy((char *)(target + 1), table);
	dm(fd, DM_TABLE_LOAD, &u.d, "table");
	u.d = (struct dm_ioctl){ .data_size = sizeof(u) };
	dm(fd, DM_DEV_SUSPEND, &u.d, "resume");
	close(fd);
}

int main(void)
{
	mkdir("/proc", 0755);
	mkdir("/sys", 0755);
	mkdir("/dev", 0755);
	mkdir("/root", 0755);
	if (mount("proc", "/proc", "proc", 0, 0) || mount("sysfs", "/sys", "sysfs", 0, 0) ||
	    mount("devtmpfs", "/dev", "devtmpfs", MS_NOSUID, "mode=0755"))
		die("mounting proc, sys, dev: %s", strerror(errno));
	int fd = open("/proc/cmdline", O_RDONLY | O_CLOEXEC);
	ssize_t n = fd < 0 ? -1 : read(fd, command_line, sizeof(command_line) - 1);
	if (n <= 0)
		die("/proc/cmdline: %s", strerror(errno));
	close(fd);
	load_modules();
	make_verity();
	if (mount("/dev/dm-0", "/root", "erofs", MS_RDONLY, 0))
		die("the root file system: %s", strerror(errno));
	if (mount("/dev", "/root/dev", 0, MS_MOVE, 0) || mount("/proc", "/root/proc", 0, MS_MOVE, 0) ||
	    mount("/sys", "/root/sys", 0, MS_MOVE, 0))
		die("moving proc, sys, dev: %s", strerror(errno));
	if (chdir("/root") || mount(".", "/", 0, MS_MOVE, 0) || chroot(".") || chdir("/"))
		die("changing root: %s", strerror(errno));
	execl("/sbin/init", "/sbin/init", (char *)0);
	die("/sbin/init: %s", strerror(errno));
}
