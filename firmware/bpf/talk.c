// SPDX-License-Identifier: EUPL-1.2
#define _GNU_SOURCE
#include "talk.h"

#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "options.h"

double now_ms(void)
{
	struct timespec t;
	clock_gettime(CLOCK_MONOTONIC, &t);
	return t.tv_sec * 1e3 + t.tv_nsec / 1e6;
}

void kernel_log(const char *format, ...)
{
	char line[400];
	va_list args;
	int fd = options.kmsg ? open("/dev/kmsg", O_WRONLY | O_CLOEXEC) : -1, n;

	if (fd < 0)
		return;
	n = snprintf(line, sizeof(line), "<5>VIGIE: ");
	va_start(args, format);
	vsnprintf(line + n, sizeof(line) - n, format, args);
	va_end(args);
	if (write(fd, line, strlen(line)) < 0)
		perror("vigie-early: /dev/kmsg");
	close(fd);
}

void end(int code, const char *format, ...)
{
	char text[360];
	va_list args;
	va_start(args, format);
	vsnprintf(text, sizeof(text), format, args);
	va_end(args);
	fprintf(stderr, "vigie-early: %s\n", text);
	kernel_log("not in force: %s", text);
	exit(code);
}

void tell(const char *format, ...)
{
	char line[512], path[600];
	va_list args;

	va_start(args, format);
	vsnprintf(line, sizeof(line), format, args);
	va_end(args);
	puts(line);
	kernel_log("%s", line);
	if (!options.report)
		return;
	snprintf(path, sizeof(path), "%s.new", options.report);
	FILE *file = fopen(path, "we");
	if (!file || fprintf(file, "%s\n", line) < 0 || fclose(file) || rename(path, options.report))
		fprintf(stderr, "vigie-early: %s: cannot be written: %s\n", options.report, strerror(errno));
}
