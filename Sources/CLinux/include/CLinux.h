// SPDX-License-Identifier: Apache-2.0
// The few Linux system calls that Swift's Glibc module does not offer.
#ifndef NBDECRYPT_CLINUX_H
#define NBDECRYPT_CLINUX_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/socket.h>
#include <sys/types.h>

/// preadv2(2) for one buffer with RWF_NOWAIT: fails with EAGAIN instead of waiting for the disk.
ssize_t linux_pread_nowait(int fd, void *buffer, size_t count, off_t offset);

/// The size in bytes of a block device (BLKGETSIZE64), or -1 with errno.
int linux_block_device_size(int fd, uint64_t *size);

/// accept4(2) with SOCK_NONBLOCK | SOCK_CLOEXEC.
int linux_accept(int fd);

/// bind(2) of a vsock socket (vsock(7)); 0, or -1 with errno.
int linux_vsock_bind(int fd, uint32_t cid, uint32_t port);

/// getsockname(2) of a vsock socket; 0, or -1 with errno.
int linux_vsock_name(int fd, uint32_t *cid, uint32_t *port);

/// The process that has connected to a Unix socket, and its user (SO_PEERCRED); 0, or -1 with errno.
int linux_peer_process(int fd, int32_t *process, uint32_t *user);

/// The number of the machine at the other end of a connected vsock socket, or VMADDR_CID_ANY when that is not known.
uint32_t linux_vsock_peer(int fd);

/// The number of this machine among those of its host (IOCTL_VM_SOCKETS_GET_LOCAL_CID); 0, or -1 with errno. A machine that
/// is no guest has no number of its own, but may say 1, 2 or VMADDR_CID_ANY.
int linux_vsock_local_cid(uint32_t *cid);

/// Turns core dumps and ptrace by other processes of the same user off (PR_SET_DUMPABLE 0).
int linux_forbid_dumps(void);

/// Pages for secrets, zeros: as many as `*length` bytes need, at least one; `*length` becomes what they have. They are left
/// out of core dumps and locked into memory; `*is_protected` says whether both worked. NULL with errno.
void *linux_take_secret_pages(size_t *length, bool *is_protected);

/// Wipes pages of `linux_take_secret_pages` in a way that the compiler does not remove, and gives them back.
void linux_release_secret_pages(void *start, size_t length);

/// How often this thread has waited for something, and given its processor up for that (getrusage(2)).
long linux_thread_waits(void);

/// lseek(2) with SEEK_DATA or SEEK_HOLE.
off_t linux_seek_data(int fd, off_t offset);
off_t linux_seek_hole(int fd, off_t offset);

/// Has the other side of a socket ended its sending (POLLRDHUP), or the connection?
bool linux_has_hung_up(int fd);

/// fallocate(2): makes a range read as zeros, and gives its space back or keeps it. 0, or -1 with errno.
int linux_punch_hole(int fd, off_t offset, off_t length);
int linux_zero_range(int fd, off_t offset, off_t length);

/// openat2(2) with O_PATH and RESOLVE_NO_MAGICLINKS; `beneath` adds RESOLVE_BENEATH: nothing, no symbolic link either, may
/// lead out of `directory`; `one_mount` adds RESOLVE_NO_XDEV: nothing may lead to what is mounted elsewhere. The descriptor, or
/// -1 with errno.
int linux_find(int directory, const char *path, bool beneath, bool one_mount);

/// open(2) of a directory with O_PATH: to find files in it is enough, and takes no right to list it. The descriptor, or -1 with
/// errno.
int linux_open_directory(const char *path);

/// Is this where a file system is mounted when somebody looks into it (autofs)? False when that cannot be told.
bool linux_is_automount(int fd);

/// Opens for reading, or for reading and writing, without waiting, what a descriptor of `linux_find` stands for; or -1 with
/// errno.
int linux_open_found(int found, bool writing);

/// Opens for reading and writing what another descriptor has open, a block device, for this process alone (O_EXCL); or -1
/// with errno.
int linux_open_exclusively(int fd);

/// Makes a file without a name in a directory, for this user alone, open for reading and writing; or -1 with errno. It is gone
/// when it is closed.
int linux_open_scratch(const char *directory);

/// Gives a file another name that leads nowhere yet; 0, or -1 with errno, EEXIST when it leads somewhere.
int linux_rename_to_new(const char *path, const char *other);

/// Has what is said in a directory of names survive a power failure; 0, or -1 with errno.
int linux_flush_directory(const char *path);

/// Takes a shared open-file-description lock on one byte (F_OFD_SETLK, F_RDLCK); 0, or -1 with errno.
int linux_lock_byte(int fd, off_t offset);

/// A descriptor for epoll_wait(2), closed on exec; or -1 with errno.
int linux_epoll_create(void);

/// Has an epoll descriptor tell, as long as it is so, that `descriptor` can be read or written; a hang-up is told
/// always. `is_new`: it is not known to it yet. 0, or -1 with errno.
int linux_epoll_watch(int epoll, int descriptor, bool is_new, bool reading, bool writing);

/// Has it forget a descriptor; 0, or -1 with errno.
int linux_epoll_forget(int epoll, int descriptor);

/// What a descriptor is ready for; a hang-up counts as both.
struct linux_ready {
    int descriptor;
    bool can_read, can_write;
};

/// The descriptors that are ready now, 64 at most, without waiting for any; how many, 0 also for an error.
int linux_epoll_take(int epoll, struct linux_ready *ready, int count);

/// Starts a program, which is looked for as execvp(3) does, with two arguments: without input, with our standard error, and with
/// a pipe as its output, whose other end is returned, closed on exec. It has no other descriptor of ours, no signal blocked, and
/// those that this program ignores as usual. Nothing of this process is copied for it. -1 with errno.
int linux_spawn_reader(const char *program, const char *first, const char *second, int32_t *process);

/// Waits until a child has ended, and lets it go unless `keep`: 0, or -1 with errno. `*code` is its exit status, or less than 0:
/// the signal that has ended it, negative.
int linux_wait(int32_t process, bool keep, int32_t *code);

/// The number of a key that the calling thread can reach: in the keyrings of its thread, process and session, or of its user.
/// No program is started to make it. Or -1 with errno: ENOKEY.
int32_t linux_find_key(const char *type, const char *description);

/// Reads a key (KEYCTL_READ) of at most `size` bytes: how many it has, more than `size` if there was no room for it, or -1 with
/// errno.
ssize_t linux_read_key(int32_t key, void *buffer, size_t size);

/// Names the calling thread, as `ps -L` and debuggers show it; 15 bytes at most: PR_SET_NAME of prctl(2).
void linux_name_thread(const char *name);

/// Lets other threads that wait for this processor have it: sched_yield(2).
void linux_yield(void);

/// For ThreadSanitizer, in builds with it alone: a place that stands for a lock; that a thread takes what others have left
/// there, and that it leaves something there itself.
uintptr_t linux_tsan_make(void);
void linux_tsan_forget(uintptr_t place);
void linux_tsan_acquire(uintptr_t place);
void linux_tsan_release(uintptr_t place);

/// Does another open file description hold a lock on the byte? 1, 0, or -1 with errno.
int linux_is_byte_locked(int fd, off_t offset);

#endif
