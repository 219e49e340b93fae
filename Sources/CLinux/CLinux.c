// SPDX-License-Identifier: Apache-2.0
#define _GNU_SOURCE
#include "CLinux.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/fs.h>
#include <linux/keyctl.h>
#include <linux/magic.h>
#include <linux/openat2.h>
#include <linux/vm_sockets.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/statfs.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <unistd.h>

ssize_t linux_pread_nowait(int fd, void *buffer, size_t count, off_t offset) {
    struct iovec vector = {buffer, count};
    return preadv2(fd, &vector, 1, offset, RWF_NOWAIT);
}

int linux_block_device_size(int fd, uint64_t *size) { return ioctl(fd, BLKGETSIZE64, size); }

int linux_accept(int fd) { return accept4(fd, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC); }

int linux_vsock_bind(int fd, uint32_t cid, uint32_t port) {
    struct sockaddr_vm address = {.svm_family = AF_VSOCK, .svm_cid = cid, .svm_port = port};
    return bind(fd, (struct sockaddr *)&address, sizeof address);
}

int linux_vsock_name(int fd, uint32_t *cid, uint32_t *port) {
    struct sockaddr_vm address = {0};
    socklen_t length = sizeof address;
    if (getsockname(fd, (struct sockaddr *)&address, &length) != 0) return -1;
    if (length < sizeof address || address.svm_family != AF_VSOCK) {
        errno = EINVAL;
        return -1;
    }
    *cid = address.svm_cid;
    *port = address.svm_port;
    return 0;
}

int linux_peer_process(int fd, int32_t *process, uint32_t *user) {
    struct ucred credentials = {0};
    socklen_t length = sizeof credentials;
    if (getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &credentials, &length) != 0) return -1;
    *process = credentials.pid;
    *user = credentials.uid;
    return 0;
}

uint32_t linux_vsock_peer(int fd) {
    struct sockaddr_vm address = {0};
    socklen_t length = sizeof address;
    if (getpeername(fd, (struct sockaddr *)&address, &length) != 0) return VMADDR_CID_ANY;
    return length < sizeof address || address.svm_family != AF_VSOCK ? VMADDR_CID_ANY : address.svm_cid;
}

int linux_vsock_local_cid(uint32_t *cid) {
    int device = open("/dev/vsock", O_RDONLY | O_CLOEXEC);
    if (device < 0) return -1;
    unsigned int found = 0;
    int result = ioctl(device, IOCTL_VM_SOCKETS_GET_LOCAL_CID, &found);
    int error = errno;
    close(device);
    errno = error;
    *cid = found;
    return result;
}

int linux_forbid_dumps(void) { return prctl(PR_SET_DUMPABLE, 0, 0, 0, 0); }

void *linux_take_secret_pages(size_t *length, bool *is_protected) {
    size_t page = (size_t)sysconf(_SC_PAGESIZE);
    *length = *length < page ? page : (*length + page - 1) / page * page;
    void *start = mmap(NULL, *length, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (start == MAP_FAILED) return NULL;
    int dump = madvise(start, *length, MADV_DONTDUMP);
    int lock = mlock(start, *length);
    *is_protected = dump == 0 && lock == 0;
    return start;
}

void linux_release_secret_pages(void *start, size_t length) {
    explicit_bzero(start, length);
    munmap(start, length);
}

long linux_thread_waits(void) {
    struct rusage usage;
    return getrusage(RUSAGE_THREAD, &usage) == 0 ? usage.ru_nvcsw : 0;
}

off_t linux_seek_data(int fd, off_t offset) { return lseek(fd, offset, SEEK_DATA); }
off_t linux_seek_hole(int fd, off_t offset) { return lseek(fd, offset, SEEK_HOLE); }

bool linux_has_hung_up(int fd) {
    struct pollfd event = {.fd = fd, .events = POLLRDHUP};
    return poll(&event, 1, 0) > 0;
}

int linux_punch_hole(int fd, off_t offset, off_t length) {
    return fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, offset, length);
}

int linux_zero_range(int fd, off_t offset, off_t length) {
    return fallocate(fd, FALLOC_FL_ZERO_RANGE | FALLOC_FL_KEEP_SIZE, offset, length);
}

int linux_lock_byte(int fd, off_t offset) {
    struct flock lock = {.l_type = F_RDLCK, .l_whence = SEEK_SET, .l_start = offset, .l_len = 1};
    return fcntl(fd, F_OFD_SETLK, &lock);
}

int linux_is_byte_locked(int fd, off_t offset) {
    struct flock lock = {.l_type = F_WRLCK, .l_whence = SEEK_SET, .l_start = offset, .l_len = 1};
    if (fcntl(fd, F_OFD_GETLK, &lock) != 0) return -1;
    return lock.l_type != F_UNLCK;
}

int linux_find(int directory, const char *path, bool beneath, bool one_mount) {
    struct open_how how = {
        .flags = O_PATH | O_CLOEXEC,
        .resolve = RESOLVE_NO_MAGICLINKS | (beneath ? RESOLVE_BENEATH : 0) | (one_mount ? RESOLVE_NO_XDEV : 0),
    };
    // The system refuses to go up with ".." while anything is renamed or mounted, anywhere on the machine: it cannot tell then
    // whether the way stays beneath. Not for ever, for who renames all the time.
    for (int attempt = 0;; attempt++) {
        int found = (int)syscall(SYS_openat2, directory, path, &how, sizeof how);
        if (found >= 0 || errno != EAGAIN || attempt == 1000) return found;
        sched_yield();
    }
}

int linux_open_directory(const char *path) { return open(path, O_PATH | O_DIRECTORY | O_CLOEXEC); }

bool linux_is_automount(int fd) {
    struct statfs system;
    return fstatfs(fd, &system) == 0 && system.f_type == AUTOFS_SUPER_MAGIC;
}

static int open_again(int fd, int flags) {
    char path[32];
    snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
    return open(path, flags | O_NONBLOCK | O_CLOEXEC);
}

int linux_open_found(int found, bool writing) { return open_again(found, writing ? O_RDWR : O_RDONLY); }

int linux_open_exclusively(int fd) { return open_again(fd, O_RDWR | O_EXCL); }

int linux_rename_to_new(const char *path, const char *other) {
    if (renameat2(AT_FDCWD, path, AT_FDCWD, other, RENAME_NOREPLACE) == 0) return 0;
    // Not every file system has it (NFS), but hard links replace nothing either.
    if (errno != EINVAL && errno != ENOSYS) return -1;
    return link(path, other) == 0 ? unlink(path) : -1;
}

int linux_flush_directory(const char *path) {
    int fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0) return -1;
    int result = fsync(fd), error = errno;
    close(fd);
    errno = error;
    return result;
}

int linux_open_scratch(const char *directory) {
    // O_EXCL: nobody gives it a name later.
    int fd = open(directory, O_TMPFILE | O_RDWR | O_EXCL | O_CLOEXEC, 0600);
    // Not every file system has files without a name (NFS, overlayfs of old kernels).
    if (fd >= 0 || errno != EOPNOTSUPP) return fd;
    char *path = NULL;
    if (asprintf(&path, "%s/nbdecrypt-XXXXXX", directory) < 0) return -1;
    fd = mkostemp(path, O_CLOEXEC);
    if (fd >= 0) unlink(path);
    int error = errno;
    free(path);
    errno = error;
    return fd;
}

int linux_epoll_create(void) { return epoll_create1(EPOLL_CLOEXEC); }

int linux_epoll_watch(int epoll, int descriptor, bool is_new, bool reading, bool writing) {
    struct epoll_event event = {
        .events = (reading ? EPOLLIN : 0) | (writing ? EPOLLOUT : 0),
        .data.fd = descriptor,
    };
    return epoll_ctl(epoll, is_new ? EPOLL_CTL_ADD : EPOLL_CTL_MOD, descriptor, &event);
}

int linux_epoll_forget(int epoll, int descriptor) { return epoll_ctl(epoll, EPOLL_CTL_DEL, descriptor, NULL); }

int linux_epoll_take(int epoll, struct linux_ready *ready, int count) {
    struct epoll_event events[64];
    int found = epoll_wait(epoll, events, count < 64 ? count : 64, 0);
    for (int index = 0; index < found; index++) {
        ready[index].descriptor = events[index].data.fd;
        ready[index].can_read = events[index].events & (EPOLLIN | EPOLLHUP | EPOLLERR);
        ready[index].can_write = events[index].events & (EPOLLOUT | EPOLLHUP | EPOLLERR);
    }
    return found < 0 ? 0 : found;
}

void linux_name_thread(const char *name) { prctl(PR_SET_NAME, name, 0, 0, 0); }

void linux_yield(void) { sched_yield(); }

#if __has_feature(thread_sanitizer)
void __tsan_acquire(void *address);
void __tsan_release(void *address);

uintptr_t linux_tsan_make(void) { return (uintptr_t)malloc(1); }
void linux_tsan_forget(uintptr_t place) { free((void *)place); }
void linux_tsan_acquire(uintptr_t place) { __tsan_acquire((void *)place); }
void linux_tsan_release(uintptr_t place) { __tsan_release((void *)place); }
#endif

/// What a child of `linux_spawn_reader` has instead of what this process has; 0 or an error.
static int prepare(posix_spawn_file_actions_t *files, posix_spawnattr_t *attributes, int output) {
    sigset_t none, usual;
    sigemptyset(&none);
    sigemptyset(&usual);
    sigaddset(&usual, SIGPIPE);
    sigaddset(&usual, SIGXFSZ);
    int error = posix_spawn_file_actions_addopen(files, STDIN_FILENO, "/dev/null", O_RDONLY, 0);
    if (error == 0) error = posix_spawn_file_actions_adddup2(files, output, STDOUT_FILENO);
    if (error == 0) error = posix_spawn_file_actions_addclosefrom_np(files, STDERR_FILENO + 1);
    if (error == 0) error = posix_spawnattr_setsigmask(attributes, &none);
    if (error == 0) error = posix_spawnattr_setsigdefault(attributes, &usual);
    if (error == 0) error = posix_spawnattr_setflags(attributes, POSIX_SPAWN_SETSIGMASK | POSIX_SPAWN_SETSIGDEF);
    return error;
}

int linux_spawn_reader(const char *program, const char *first, const char *second, int32_t *process) {
    int ends[2];
    if (pipe2(ends, O_CLOEXEC) != 0) return -1;
    char *const arguments[] = {(char *)program, (char *)first, (char *)second, NULL};
    posix_spawn_file_actions_t files;
    posix_spawnattr_t attributes;
    pid_t child = -1;
    int error = posix_spawn_file_actions_init(&files);
    if (error == 0) {
        error = posix_spawnattr_init(&attributes);
        if (error == 0) {
            error = prepare(&files, &attributes, ends[1]);
            if (error == 0) error = posix_spawnp(&child, program, &files, &attributes, arguments, environ);
            posix_spawnattr_destroy(&attributes);
        }
        posix_spawn_file_actions_destroy(&files);
    }
    close(ends[1]);
    if (error != 0) {
        close(ends[0]);
        errno = error;
        return -1;
    }
    *process = child;
    return ends[0];
}

int linux_wait(int32_t process, bool keep, int32_t *code) {
    siginfo_t info = {0};
    int result;
    do {
        result = waitid(P_PID, (id_t)process, &info, WEXITED | (keep ? WNOWAIT : 0));
    } while (result != 0 && errno == EINTR);
    if (result != 0) return -1;
    *code = info.si_code == CLD_EXITED ? info.si_status : -info.si_status;
    return 0;
}

int32_t linux_find_key(const char *type, const char *description) {
    // Without information for a caller, request_key(2) makes no key.
    long key = syscall(SYS_request_key, type, description, NULL, 0);
    if (key >= 0 || errno == EACCES || errno == ENOSYS || errno == EPERM) return (int32_t)key;
    int error = errno;
    int32_t keyrings[] = {KEY_SPEC_USER_KEYRING, KEY_SPEC_USER_SESSION_KEYRING};
    for (size_t index = 0; index < sizeof keyrings / sizeof keyrings[0]; index++) {
        key = syscall(SYS_keyctl, KEYCTL_SEARCH, keyrings[index], type, description, 0);
        if (key >= 0) return (int32_t)key;
    }
    errno = error;
    return -1;
}

ssize_t linux_read_key(int32_t key, void *buffer, size_t size) {
    return syscall(SYS_keyctl, KEYCTL_READ, key, buffer, size);
}
