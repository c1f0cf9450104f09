/* SPDX-License-Identifier: EUPL-1.2 */
/* What the early loader says: to standard error, to the kernel's log, and as one line of JSON. */
#pragma once

/* CLOCK_MONOTONIC: milliseconds since the kernel started. */
double now_ms(void);

/* A line of the kernel's log (--kmsg): it is on the console before any journal is, and survives in its ring. */
void __attribute__((format(printf, 1, 2))) kernel_log(const char *format, ...);

/* Says why, and ends the program. */
void __attribute__((noreturn, format(printf, 2, 3))) end(int code, const char *format, ...);
#define die(...) end(1, __VA_ARGS__)

/* The one line of JSON, to standard output and to the report. A report that cannot be written is no reason to stop. */
void __attribute__((format(printf, 1, 2))) tell(const char *format, ...);
