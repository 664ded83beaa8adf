/* Makes the N-th call of a kind fail below given folders, where everything goes through libc.

   Loaded with LD_PRELOAD. What is to fail stands in a file that is mapped into memory, named by
   VOL3DSEG_FAULTS, so that all processes of a command count together. Nothing is counted while its
   `kinds` are 0. */
#define _GNU_SOURCE
#include <dirent.h>
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/sendfile.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/types.h>
#include <sys/uio.h>
#include <unistd.h>

enum { OPEN = 1, READ = 2, WRITE = 4, SYNC = 8, RENAME = 16, CREATE = 32, FOLDER = 64, REMOVE = 128, TRUNCATE = 256 };
enum { ONCE, FROM_THEN_ON, KILL, HALF };
enum { PATH = 1024 };

/* `control.py` has the same. */
struct control {
    int64_t kinds, nth, error, mode;
    _Atomic int64_t count, struck;
    char root[2][PATH];
    char hit[2 * PATH];
    char log[PATH];
};

static struct control *now;

void faults_map(const char *path) {
    int file = syscall(SYS_openat, AT_FDCWD, path, O_RDWR | O_CLOEXEC, 0);
    if (file < 0)
        return;
    void *mapped = mmap(NULL, sizeof(struct control), PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
    syscall(SYS_close, file);
    now = mapped == MAP_FAILED ? NULL : mapped;
}

__attribute__((constructor)) static void begin(void) {
    const char *path = getenv("VOL3DSEG_FAULTS");
    if (path)
        faults_map(path);
}

static const char *name_of(int kind) {
    switch (kind) {
    case OPEN: return "open";
    case OPEN | CREATE: return "create";
    case READ: return "read";
    case WRITE: return "write";
    case SYNC: return "fsync";
    case RENAME: return "rename";
    case FOLDER: return "mkdir";
    case REMOVE: return "remove";
    default: return "truncate";
    }
}

static int below(const char *path) {
    for (int n = 0; n < 2; n++) {
        size_t length = strlen(now->root[n]);
        if (length && !strncmp(path, now->root[n], length) && (path[length] == '/' || !path[length]))
            return 1;
    }
    return 0;
}

static int link_of(char *path, int descriptor) {
    char link[64];
    snprintf(link, sizeof link, "/proc/self/fd/%d", descriptor);
    ssize_t length = syscall(SYS_readlinkat, AT_FDCWD, link, path, PATH - 1);
    path[length < 0 ? 0 : length] = 0;
    return length >= 0;
}

/* A call on a file; says what the caller must do: 0 go on, 1 fail, 2 do half of it. */
static int strikes(int kind, const char *path) {
    if (!below(path))
        return 0;
    int64_t count = atomic_fetch_add(&now->count, 1) + 1;
    if (now->log[0]) {
        char line[PATH + 32];
        int length = snprintf(line, sizeof line, "%s %s\n", name_of(kind), path);
        int file = syscall(SYS_openat, AT_FDCWD, now->log, O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC, 0600);
        syscall(SYS_write, file, line, length);
        syscall(SYS_close, file);
    }
    int first = count == now->nth;
    if (!first && !(now->mode == FROM_THEN_ON && count > now->nth && now->nth > 0))
        return 0;
    if (first) {
        snprintf(now->hit, sizeof now->hit, "%s %s", name_of(kind), path);
        now->struck = 1;
    }
    if (now->mode == KILL) {
        kill(getpid(), SIGKILL);
        for (;;)
            pause();
    }
    if (first && kind == WRITE && now->mode != ONCE)
        return 2;
    errno = now->error;
    return 1;
}

static int on_path(int kind, int folder, const char *path) {
    if (!now || !(now->kinds & kind) || !path)
        return 0;
    char whole[2 * PATH] = "";
    if (path[0] != '/') {
        if (folder == AT_FDCWD) {
            if (syscall(SYS_getcwd, whole, PATH) < 0)
                return 0;
        } else if (!link_of(whole, folder))
            return 0;
        strcat(whole, "/");
    }
    strncat(whole, path, PATH - 1);
    return strikes(kind, whole);
}

static int on_descriptor(int kind, int descriptor) {
    char path[PATH];
    if (!now || !(now->kinds & kind) || !link_of(path, descriptor))
        return 0;
    return strikes(kind, path);
}

#define REAL(name) ((__typeof__(&name))real(#name))
static void *real(const char *name) { return dlsym(RTLD_NEXT, name); }

#define KIND(flags) ((flags) & O_CREAT ? OPEN | CREATE : OPEN)
#define MODE_OF(flags) \
    mode_t mode = 0; \
    if ((flags) & (O_CREAT | O_TMPFILE)) { \
        va_list rest; \
        va_start(rest, flags); \
        mode = va_arg(rest, mode_t); \
        va_end(rest); \
    }

#define OPENING(name) \
    int name(const char *path, int flags, ...) { \
        MODE_OF(flags) \
        return on_path(KIND(flags), AT_FDCWD, path) ? -1 : REAL(name)(path, flags, mode); \
    }
OPENING(open)
OPENING(open64)

#define OPENING_AT(name) \
    int name(int folder, const char *path, int flags, ...) { \
        MODE_OF(flags) \
        return on_path(KIND(flags), folder, path) ? -1 : REAL(name)(folder, path, flags, mode); \
    }
OPENING_AT(openat)
OPENING_AT(openat64)

int creat(const char *path, mode_t mode) { return open(path, O_CREAT | O_WRONLY | O_TRUNC, mode); }
int creat64(const char *path, mode_t mode) { return creat(path, mode); }
/* What a compiler makes of `open` where it checks its arguments. */
int __open_2(const char *path, int flags) { return open(path, flags); }
int __open64_2(const char *path, int flags) { return open64(path, flags); }
int __openat_2(int folder, const char *path, int flags) { return openat(folder, path, flags); }
int __openat64_2(int folder, const char *path, int flags) { return openat64(folder, path, flags); }

#define STREAM(name) \
    FILE *name(const char *path, const char *mode) { \
        int kind = strchr(mode, 'r') ? OPEN : OPEN | CREATE; \
        return on_path(kind, AT_FDCWD, path) ? NULL : REAL(name)(path, mode); \
    }
STREAM(fopen)
STREAM(fopen64)

DIR *opendir(const char *path) { return on_path(OPEN, AT_FDCWD, path) ? NULL : REAL(opendir)(path); }

/* Half of what is asked for, and no error: what a full disk says first. */
#define SOME(kind, size) \
    int struck = on_descriptor(kind, descriptor); \
    if (struck == 1) \
        return -1; \
    if (struck == 2) \
        size = size > 1 ? size / 2 : size;

ssize_t read(int descriptor, void *to, size_t size) {
    SOME(READ, size)
    return REAL(read)(descriptor, to, size);
}
ssize_t __read_chk(int descriptor, void *to, size_t size, size_t room) {
    (void)room;
    return read(descriptor, to, size);
}
ssize_t write(int descriptor, const void *from, size_t size) {
    SOME(WRITE, size)
    return REAL(write)(descriptor, from, size);
}

#define PLACED(name, kind, type, offset) \
    ssize_t name(int descriptor, type buffer, size_t size, offset place) { \
        SOME(kind, size) \
        return REAL(name)(descriptor, buffer, size, place); \
    }
PLACED(pread, READ, void *, off_t)
PLACED(pread64, READ, void *, off64_t)
PLACED(pwrite, WRITE, const void *, off_t)
PLACED(pwrite64, WRITE, const void *, off64_t)

#define VECTOR(name, kind) \
    ssize_t name(int descriptor, const struct iovec *parts, int size) { \
        SOME(kind, size) \
        return REAL(name)(descriptor, parts, size); \
    }
VECTOR(readv, READ)
VECTOR(writev, WRITE)

ssize_t sendfile(int descriptor, int from, off_t *place, size_t size) {
    SOME(WRITE, size)
    return REAL(sendfile)(descriptor, from, place, size);
}
ssize_t sendfile64(int descriptor, int from, off64_t *place, size_t size) {
    SOME(WRITE, size)
    return REAL(sendfile64)(descriptor, from, place, size);
}
ssize_t copy_file_range(int from, off64_t *there, int descriptor, off64_t *here, size_t size, unsigned flags) {
    SOME(WRITE, size)
    return REAL(copy_file_range)(from, there, descriptor, here, size, flags);
}

#define ON_DESCRIPTOR(name, kind) \
    int name(int descriptor) { return on_descriptor(kind, descriptor) ? -1 : REAL(name)(descriptor); }
ON_DESCRIPTOR(fsync, SYNC)
ON_DESCRIPTOR(fdatasync, SYNC)

int ftruncate(int descriptor, off_t size) {
    return on_descriptor(TRUNCATE, descriptor) ? -1 : REAL(ftruncate)(descriptor, size);
}
int ftruncate64(int descriptor, off64_t size) {
    return on_descriptor(TRUNCATE, descriptor) ? -1 : REAL(ftruncate64)(descriptor, size);
}

int rename(const char *from, const char *to) {
    return on_path(RENAME, AT_FDCWD, to) ? -1 : REAL(rename)(from, to);
}
int renameat(int there, const char *from, int here, const char *to) {
    return on_path(RENAME, here, to) ? -1 : REAL(renameat)(there, from, here, to);
}
int renameat2(int there, const char *from, int here, const char *to, unsigned flags) {
    return on_path(RENAME, here, to) ? -1 : REAL(renameat2)(there, from, here, to, flags);
}

int mkdir(const char *path, mode_t mode) {
    return on_path(FOLDER, AT_FDCWD, path) ? -1 : REAL(mkdir)(path, mode);
}
int mkdirat(int folder, const char *path, mode_t mode) {
    return on_path(FOLDER, folder, path) ? -1 : REAL(mkdirat)(folder, path, mode);
}

int unlink(const char *path) { return on_path(REMOVE, AT_FDCWD, path) ? -1 : REAL(unlink)(path); }
int rmdir(const char *path) { return on_path(REMOVE, AT_FDCWD, path) ? -1 : REAL(rmdir)(path); }
int unlinkat(int folder, const char *path, int flags) {
    return on_path(REMOVE, folder, path) ? -1 : REAL(unlinkat)(folder, path, flags);
}
