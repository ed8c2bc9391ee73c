/* Counts the calls that change files below one folder, lets one of them fail, kills the process at it, or writes all of them down.

   Loaded with LD_PRELOAD; tests/soak/calls.py builds and drives it. A call is one of `open` for writing, `write`, `fsync`, `ftruncate`,
   `rename`, `link`, `unlink` and `mkdir`, and their relatives. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/types.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

enum { COUNT, FAIL_ONCE, FAIL_FROM_HERE, WRITE_SHORT, DIE_BEFORE, DIE_WITHIN };

static char folder[PATH_MAX];
static long number, chosen = -1;
static int error_number, effect;
static FILE *record;
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;

void calls_watch(const char *path, long at, int error, int how) {
    strncpy(folder, path, sizeof folder - 1);
    chosen = at, error_number = error, effect = how, number = 0;
}
long calls_counted(void) { return number; }
void calls_stop(void) {
    folder[0] = 0;
    if (record) fclose(record);
    record = NULL;
}
void calls_write_down(const char *path) { record = fopen(path, "wb"); }

/* Write down one call: its kind, paths, offset, data and time. */
static void note(char kind, const char *path, const char *to, long offset, long size, const void *data) {
    struct timespec now;
    if (!record) return;
    clock_gettime(CLOCK_MONOTONIC, &now);
    long head[6] = {kind, (long)strlen(path), (long)strlen(to), offset, size, now.tv_sec * 1000000 + now.tv_nsec / 1000};
    pthread_mutex_lock(&lock);
    fwrite(head, sizeof head, 1, record);
    fwrite(path, 1, head[1], record);
    fwrite(to, 1, head[2], record);
    if (data) fwrite(data, 1, size, record);
    pthread_mutex_unlock(&lock);
}
void calls_acknowledge(long change) { note('A', "", "", change, 0, NULL); }

static int is_watched(const char *path) { return folder[0] && path && !strncmp(path, folder, strlen(folder)); }
static int path_of(int file, char *path) {
    char link[64];
    if (!folder[0]) return 0;
    snprintf(link, sizeof link, "/proc/self/fd/%d", file);
    ssize_t size = readlink(link, path, PATH_MAX - 1);
    if (size < 0) return 0;
    path[size] = 0;
    return is_watched(path);
}
/* Return 1 if this call is to fail; does not return if the process is to die before it. */
static int fails(void) {
    long at = __atomic_fetch_add(&number, 1, __ATOMIC_SEQ_CST);
    if (effect == COUNT || !(effect == FAIL_FROM_HERE ? at >= chosen : at == chosen)) return 0;
    if (effect == DIE_BEFORE) _exit(9);
    errno = error_number;
    return 1;
}

#define NEXT(type, name, ...) static type (*next)(__VA_ARGS__); if (!next) next = dlsym(RTLD_NEXT, name)
#define CHANGES(flags) ((flags) & (O_CREAT | O_WRONLY | O_RDWR | O_TRUNC))

static int opened(int (*next)(const char *, int, ...), const char *path, int flags, mode_t mode) {
    if (!is_watched(path) || !CHANGES(flags)) return next(path, flags, mode);
    struct stat before;
    int is_new = stat(path, &before) != 0;
    if (fails()) {
        if (effect == DIE_WITHIN) { next(path, flags, mode); _exit(9); }
        return -1;
    }
    int file = next(path, flags, mode);
    if (file >= 0 && (flags & O_CREAT) && is_new) note('C', path, "", 0, 0, NULL);
    if (file >= 0 && (flags & O_TRUNC) && !is_new) note('T', path, "", 0, 0, NULL);
    return file;
}
#define MODE va_list more; va_start(more, flags); mode_t mode = flags & O_CREAT ? va_arg(more, mode_t) : 0; va_end(more)
int open(const char *path, int flags, ...) { NEXT(int, "open", const char *, int, ...); MODE; return opened(next, path, flags, mode); }
int open64(const char *path, int flags, ...) { NEXT(int, "open64", const char *, int, ...); MODE; return opened(next, path, flags, mode); }
int openat(int at, const char *path, int flags, ...) {
    NEXT(int, "openat", int, const char *, int, ...);
    MODE;
    if (is_watched(path) && CHANGES(flags) && fails()) { if (effect == DIE_WITHIN) _exit(9); return -1; }
    return next(at, path, flags, mode);
}

/* What a write does that is to fail: half of it, if only that, or none. */
#define WRITE(half, whole, offset) \
    char path[PATH_MAX]; \
    int watched = path_of(file, path); \
    if (watched && fails()) { \
        if ((effect == WRITE_SHORT || effect == DIE_WITHIN) && size > 1) { \
            long start = offset; \
            ssize_t part = half; \
            if (effect == DIE_WITHIN) _exit(9); \
            if (part > 0) note('W', path, "", start, part, data); \
            return part; \
        } \
        return -1; \
    } \
    long start = watched && record ? offset : 0; \
    ssize_t done = whole; \
    if (watched && done > 0) note('W', path, "", start, done, data); \
    return done
static long end_of(int file) {
    struct stat status;
    if (fcntl(file, F_GETFL) & O_APPEND) return fstat(file, &status) ? 0 : (long)status.st_size;
    return lseek(file, 0, SEEK_CUR);
}
ssize_t write(int file, const void *data, size_t size) {
    NEXT(ssize_t, "write", int, const void *, size_t);
    WRITE(next(file, data, size / 2), next(file, data, size), end_of(file));
}
ssize_t pwrite(int file, const void *data, size_t size, off_t at) {
    NEXT(ssize_t, "pwrite", int, const void *, size_t, off_t);
    WRITE(next(file, data, size / 2, at), next(file, data, size, at), at);
}
ssize_t pwrite64(int file, const void *data, size_t size, off_t at) {
    NEXT(ssize_t, "pwrite64", int, const void *, size_t, off_t);
    WRITE(next(file, data, size / 2, at), next(file, data, size, at), at);
}

/* Calls that do one thing, or nothing. */
#define DO(watched, call, before, after) \
    int is_ours = watched; \
    if (is_ours && fails()) { if (effect == DIE_WITHIN) { call; _exit(9); } return -1; } \
    if (is_ours) { before; } \
    int result = call; \
    if (is_ours && !result) { after; } \
    return result
#define FLUSH(name) \
    int name(int file) { \
        NEXT(int, #name, int); \
        char path[PATH_MAX]; \
        DO(path_of(file, path), next(file), note('B', path, "", 0, 0, NULL), note('S', path, "", 0, 0, NULL)); \
    }
FLUSH(fsync)
FLUSH(fdatasync)
#define CUT(name) \
    int name(int file, off_t size) { \
        NEXT(int, #name, int, off_t); \
        char path[PATH_MAX]; \
        DO(path_of(file, path), next(file, size), , note('T', path, "", size, 0, NULL)); \
    }
CUT(ftruncate)
CUT(ftruncate64)
int rename(const char *path, const char *to) {
    NEXT(int, "rename", const char *, const char *);
    DO(is_watched(to), next(path, to), , note('R', path, to, 0, 0, NULL));
}
int link(const char *path, const char *to) {
    NEXT(int, "link", const char *, const char *);
    DO(is_watched(to), next(path, to), , note('L', path, to, 0, 0, NULL));
}
int unlink(const char *path) {
    NEXT(int, "unlink", const char *);
    DO(is_watched(path), next(path), , note('U', path, "", 0, 0, NULL));
}
int mkdir(const char *path, mode_t mode) {
    NEXT(int, "mkdir", const char *, mode_t);
    DO(is_watched(path), next(path, mode), , note('M', path, "", 0, 0, NULL));
}
