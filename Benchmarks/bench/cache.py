# SPDX-License-Identifier: Apache-2.0
"""The page cache: filling it with a file, and emptying it."""

import os
import subprocess

CLIENTS = (["nbdcopy", "--version"], ["fio", "--version"], ["qemu-img", "--version"])


class PageCache:
    """Cold means cold for this machine; the host of a virtual machine may still have the data."""

    def __init__(self):
        self.how = "/proc/sys/vm/drop_caches" if os.access("/proc/sys/vm/drop_caches", os.W_OK) and os.geteuid() == 0 \
            else "posix_fadvise(POSIX_FADV_DONTNEED) on the images"

    def warm(self, paths):
        buffer = bytearray(1 << 20)
        for path in paths:
            with open(path, "rb", buffering=0) as file:
                while file.readinto(buffer):
                    pass

    def drop(self, paths):
        """Only clean pages can be dropped, so they are written first."""
        for path in paths:
            with open(path, "rb") as file:
                os.fdatasync(file.fileno())
                os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
        if self.how.startswith("/proc"):
            try:
                with open("/proc/sys/vm/drop_caches", "w", encoding="ascii") as file:
                    file.write("3")
            except OSError as error:
                self.how = f"posix_fadvise(POSIX_FADV_DONTNEED) on the images, since drop_caches: {error.strerror}"
            # What the clients themselves are made of is not what is measured.
            for client in CLIENTS:
                subprocess.run(client, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, check=False)
