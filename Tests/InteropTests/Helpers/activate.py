#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Starts a command as a service manager does, with a socket at descriptor 3 (sd_listen_fds(3)).

    activate.py KIND PATH COMMAND...

KIND: unix (listens at PATH), tcp (on 127.0.0.1), everywhere (on 0.0.0.0), file (no socket at all), stranger (a socket,
but LISTEN_PID is of another process), two (Unix sockets at PATH and PATH.2), vsock (for every machine), abstract (a
Unix socket with a name that is no path).
"""
import os
import socket
import sys


def main():
    kind, path, command = sys.argv[1], sys.argv[2], sys.argv[3:]
    listeners = []
    if kind in ("unix", "stranger", "two"):
        for name in [path, path + ".2"] if kind == "two" else [path]:
            listener = socket.socket(socket.AF_UNIX)
            listener.bind(name)
            listeners.append(listener)
    elif kind in ("tcp", "everywhere"):
        listener = socket.socket()
        listener.bind(("127.0.0.1" if kind == "tcp" else "0.0.0.0", 0))
        listeners.append(listener)
    elif kind == "vsock":
        listener = socket.socket(socket.AF_VSOCK)
        listener.bind((socket.VMADDR_CID_ANY, socket.VMADDR_PORT_ANY))
        listeners.append(listener)
    elif kind == "abstract":
        listener = socket.socket(socket.AF_UNIX)
        listener.bind("\0" + path)
        listeners.append(listener)
    for listener in listeners:
        listener.listen()
    descriptors = [listener.fileno() for listener in listeners] or [os.open("/dev/null", os.O_RDONLY)]
    # Out of the way first: one may be where another has to go.
    moved = [os.dup2(descriptor, 20 + index) for index, descriptor in enumerate(descriptors)]
    for index, descriptor in enumerate(moved):
        os.dup2(descriptor, 3 + index, inheritable=True)
        os.close(descriptor)
    os.environ["LISTEN_FDS"] = str(len(moved))
    os.environ["LISTEN_FDNAMES"] = ":".join("nbd" for _ in moved)
    os.environ["LISTEN_PID"] = "1" if kind == "stranger" else str(os.getpid())
    os.execv(command[0], command)


main()
