// SPDX-License-Identifier: EUPL-1.2
/* First and only program of a machine whose disks are recorded (vm/fatwrites/__main__.py): changes autoboot.txt on each
 * disk, a FAT16 without partitions, in another way. What the kernel's vfat writes for it, and in which order, is what
 * docs/adr/0022 chooses by. The ways come on the command line, in the order of the disks: ways=exchange,replace,...
 *
 * exchange  the staged AUTOBOOT.NEW is written and changes places with AUTOBOOT.TXT (renameat2, RENAME_EXCHANGE)
 * replace   a new AUTOBOOT.NEW is written and renamed over AUTOBOOT.TXT
 * inplace   AUTOBOOT.TXT is overwritten
 * direct    no file system: its sector is written through O_DIRECT | O_DSYNC, as vigie.update.boot does
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/reboot.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/utsname.h>
#include <unistd.h>

#define WANTED "[all]\ntryboot_a_b=1\nboot_partition=3\n[tryboot]\nboot_partition=2\n"
#define SECTOR 512

static void __attribute__((noreturn)) off(void)
{
	sync();
	reboot(RB_POWER_OFF);
	for (;;)
		pause();
}

static void __attribute__((noreturn, format(printf, 1, 2))) die(const char *format, ...)
{
	va_list args;
	va_start(args, format);
	vprintf(format, args);
	va_end(args);
	printf(": %s\nFATWRITES failed\n", strerror(errno));
	off();
}

static int open_or_die(const char *path, int flags)
{
	int fd = open(path, flags | O_CLOEXEC, 0644);
	if (fd < 0)
		die("%s", path);
	return fd;
}

static void sync_or_die(const char *path, int flags)
{
	int fd = open_or_die(path, flags);
	if (fsync(fd))
		die("fsync %s", path);
	close(fd);
}

static void write_file(const char *path, int flags)
{
	int fd = open_or_die(path, O_WRONLY | flags);
	if (write(fd, WANTED, strlen(WANTED)) != (ssize_t)strlen(WANTED))
		die("write %s", path);
	if (fsync(fd))
		die("fsync %s", path);
	close(fd);
}

static void direct(const char *device)
{
	uint8_t *sector;
	int fd = open_or_die(device, O_RDWR | O_DIRECT | O_DSYNC);

	if (posix_memalign((void **)&sector, 4096, SECTOR) || pread(fd, sector, SECTOR, 0) != SECTOR)
		die("read %s", device);
	unsigned reserved = sector[14] | sector[15] << 8, table = sector[22] | sector[23] << 8;
	unsigned entries = sector[17] | sector[18] << 8;
	off_t place = (off_t)(reserved + sector[16] * table + entries * 32 / SECTOR) * SECTOR;
	memset(sector, 0, SECTOR);
	memcpy(sector, WANTED, strlen(WANTED));
	if (pwrite(fd, sector, SECTOR, place) != SECTOR)
		die("write %s", device);
	close(fd);
}

static void change(const char *device, const char *way)
{
	if (!strcmp(way, "direct")) {
		direct(device);
		return;
	}
	if (mount(device, "/mnt", "vfat", MS_NOSUID | MS_NODEV | MS_NOEXEC, ""))
		die("mount %s", device);
	if (!strcmp(way, "exchange")) {
		write_file("/mnt/AUTOBOOT.NEW", 0);
		if (renameat2(AT_FDCWD, "/mnt/AUTOBOOT.NEW", AT_FDCWD, "/mnt/AUTOBOOT.TXT", RENAME_EXCHANGE))
			die("renameat2");
		sync_or_die("/mnt/AUTOBOOT.TXT", O_RDONLY);
		sync_or_die("/mnt/AUTOBOOT.NEW", O_RDONLY);
	} else if (!strcmp(way, "replace")) {
		write_file("/mnt/AUTOBOOT.NEW", O_CREAT | O_TRUNC);
		if (rename("/mnt/AUTOBOOT.NEW", "/mnt/AUTOBOOT.TXT"))
			die("rename");
	} else if (!strcmp(way, "inplace")) {
		write_file("/mnt/AUTOBOOT.TXT", 0);
	} else {
		errno = EINVAL;
		die("way %s", way);
	}
	sync_or_die("/mnt", O_RDONLY | O_DIRECTORY);
	if (umount("/mnt"))
		die("umount %s", device);
}

static void load_modules(void)
{
	char name[256];
	FILE *list = fopen("/modules/list", "re");

	if (!list)
		die("/modules/list");
	while (fgets(name, sizeof(name), list)) {
		name[strcspn(name, "\n")] = 0;
		int fd = open_or_die(name, O_RDONLY);
		if (syscall(SYS_finit_module, fd, "", 0) && errno != EEXIST)
			printf("%s: %s\n", name, strerror(errno));
		close(fd);
	}
	fclose(list);
}

int main(void)
{
	static char line[4096];
	char device[] = "/dev/vda";
	struct utsname kernel;

	setvbuf(stdout, 0, _IONBF, 0);
	mkdir("/proc", 0755);
	mkdir("/mnt", 0755);
	if (mount("proc", "/proc", "proc", 0, 0) || mount("devtmpfs", "/dev", "devtmpfs", 0, 0))
		die("proc, dev");
	int fd = open("/dev/console", O_RDWR);
	if (fd >= 0 && fd != 1)
		dup2(fd, 1);
	load_modules();
	fd = open_or_die("/proc/cmdline", O_RDONLY);
	if (read(fd, line, sizeof(line) - 1) <= 0)
		die("/proc/cmdline");
	char *ways = strstr(line, "ways=");
	if (!ways)
		die("no ways=");
	ways += strlen("ways=");
	ways[strcspn(ways, " \n")] = 0;
	for (int waited = 0; waited < 200 && access("/dev/vda", F_OK); waited++)
		usleep(50000);
	for (char *way = strtok(ways, ","); way; way = strtok(0, ","), device[7]++)
		change(device, way);
	uname(&kernel);
	printf("FATWRITES done by Linux %s\n", kernel.release);
	off();
}
