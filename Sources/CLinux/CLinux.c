// SPDX-License-Identifier: Apache-2.0
#define _GNU_SOURCE
#include "CLinux.h"

#include <fcntl.h>
#include <linux/fs.h>
#include <linux/openat2.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

ssize_t linux_pread_nowait(int fd, void *buffer, size_t count, off_t offset) {
    struct iovec vector = {buffer, count};
    return preadv2(fd, &vector, 1, offset, RWF_NOWAIT);
}

int linux_block_device_size(int fd, uint64_t *size) { return ioctl(fd, BLKGETSIZE64, size); }

int linux_accept(int fd) { return accept4(fd, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC); }

int linux_forbid_dumps(void) { return prctl(PR_SET_DUMPABLE, 0, 0, 0, 0); }

int linux_protect(void *start, size_t length) {
    int dump = madvise(start, length, MADV_DONTDUMP);
    int lock = mlock(start, length);
    return dump == 0 && lock == 0 ? 0 : -1;
}

void linux_wipe(void *start, size_t length) { explicit_bzero(start, length); }

off_t linux_seek_data(int fd, off_t offset) { return lseek(fd, offset, SEEK_DATA); }
off_t linux_seek_hole(int fd, off_t offset) { return lseek(fd, offset, SEEK_HOLE); }

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

int linux_find(int directory, const char *path, bool beneath) {
    struct open_how how = {
        .flags = O_PATH | O_CLOEXEC,
        .resolve = RESOLVE_NO_MAGICLINKS | (beneath ? RESOLVE_BENEATH : 0),
    };
    return (int)syscall(SYS_openat2, directory, path, &how, sizeof how);
}

int linux_open_found(int found) {
    char path[32];
    snprintf(path, sizeof path, "/proc/self/fd/%d", found);
    return open(path, O_RDONLY | O_NONBLOCK | O_CLOEXEC);
}
