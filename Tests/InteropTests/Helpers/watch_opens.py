#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Runs a command and says how often it, or anybody, opened a file meanwhile.

    watch_opens.py FILE COMMAND...

The command's output goes to standard error; standard output gets one line: exit status and number of opens.
"""
import ctypes
import os
import struct
import subprocess
import sys

IN_OPEN = 0x20


def main():
    libc = ctypes.CDLL(None, use_errno=True)
    watch = libc.inotify_init1(os.O_NONBLOCK)
    if watch < 0 or libc.inotify_add_watch(watch, sys.argv[1].encode(), IN_OPEN) < 0:
        sys.exit("inotify: " + os.strerror(ctypes.get_errno()))
    status = subprocess.run(sys.argv[2:], stdout=sys.stderr, stdin=subprocess.DEVNULL, timeout=30).returncode
    opens = 0
    try:
        while data := os.read(watch, 65536):
            while data:
                length = struct.unpack_from("iIII", data)[3]
                opens += 1
                data = data[16 + length:]
    except BlockingIOError:
        pass
    print(status, opens)


main()
