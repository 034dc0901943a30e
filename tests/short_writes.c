/* Writes as a kernel may carry them out: in part, interrupted, or torn by the end of the process.
 *
 * Preloaded before the C library (LD_PRELOAD); only calls on segments' sizes matter, so the first bytes decide: a
 * call of fewer than 1,024 bytes passes. CEA_WRITES says what happens to the others:
 *   short     only a part is written, another part each time, and its size is returned; every third call is interrupted
 *   torn:N    the N-th call writes its first half, then the process is killed
 *   full:N    from the N-th call on: a part is written, then ENOSPC
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

typedef ssize_t (*writer)(int, const void *, size_t, off_t);
static atomic_long calls;

static ssize_t changed(int fd, const void *data, size_t size, off_t offset)
{
    static writer next;
    if (!next)
        next = (writer)dlsym(RTLD_NEXT, "pwrite64");
    const char *mode = getenv("CEA_WRITES");
    if (!mode || size < 1024)
        return next(fd, data, size, offset);
    long call = ++calls, number = strchr(mode, ':') ? atol(strchr(mode, ':') + 1) : 0;
    if (!strncmp(mode, "torn", 4) && call == number) {
        next(fd, data, size / 2, offset);
        kill(getpid(), SIGKILL);
        pause();
    }
    if (!strncmp(mode, "full", 4) && call >= number) {
        if (call > number) {
            errno = ENOSPC;
            return -1;
        }
        return next(fd, data, size / 2, offset);
    }
    if (!strcmp(mode, "short")) {
        if (call % 3 == 0) {
            errno = EINTR;
            return -1;
        }
        return next(fd, data, 1 + (size_t)(call * 7919) % (size - 1), offset);
    }
    return next(fd, data, size, offset);
}

ssize_t pwrite(int fd, const void *data, size_t size, off_t offset) { return changed(fd, data, size, offset); }
ssize_t pwrite64(int fd, const void *data, size_t size, off_t offset) { return changed(fd, data, size, offset); }
