/* The reference operation of the bench in C, to say what the harness adds to it; see
 * bench-harness/src/model/reference.rs, which is the same step by step.
 *
 * usage: reference DIR SAMPLES
 * Prints the time of each sample in ns, one a line. */
#define _GNU_SOURCE
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

enum { PAGES = 64, PAGE_BYTES = 4096 };

static void fail(const char *what) {
    perror(what);
    exit(1);
}

static long long now_ns(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return now.tv_sec * 1000000000LL + now.tv_nsec;
}

static void write_page(int file, const char *page, int index) {
    if (pwrite(file, page, PAGE_BYTES, (off_t)index * PAGE_BYTES) != PAGE_BYTES)
        fail("pwrite");
}

static int open_or_fail(int dir, const char *name, int flags) {
    int opened = openat(dir, name, flags | O_CLOEXEC, 0644);
    if (opened < 0)
        fail(name);
    return opened;
}

int main(int argc, char **argv) {
    char page[PAGE_BYTES] = {0};
    long n = argc == 3 ? strtol(argv[2], NULL, 10) : 0;
    if (n <= 0) {
        fputs("usage: reference DIR SAMPLES\n", stderr);
        return 2;
    }
    long long *samples = calloc(n, sizeof *samples);
    if (!samples)
        fail("calloc");
    int dir = open_or_fail(AT_FDCWD, argv[1], O_RDONLY | O_DIRECTORY);
    int made = open_or_fail(dir, "reference", O_WRONLY | O_CREAT | O_TRUNC);
    for (int index = 0; index < PAGES; index++)
        write_page(made, page, index);
    if (close(made))
        fail("close");
    for (long number = 0; number < n; number++) {
        int home = open_or_fail(AT_FDCWD, argv[1], O_RDONLY | O_DIRECTORY);
        memset(page, 1, sizeof page);
        memcpy(page, &number, sizeof number);
        long long start = now_ns();
        int file = open_or_fail(home, "reference", O_RDWR);
        for (int index = 0; index < PAGES; index++)
            write_page(file, page, index);
        int closed = close(file);
        samples[number] = now_ns() - start;
        if (closed || close(home))
            fail("close");
    }
    for (long number = 0; number < n; number++)
        printf("%lld\n", samples[number]);
    return fflush(stdout) ? 1 : 0;
}
