#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Reads a disk in one request, and sends SIGTERM to the server when it has the first bytes of the reply.

    slow_reader.py SOCKET SIZE OUTPUT PID

Writes what it read to OUTPUT. The server must then hang up.
"""
import os
import signal
import sys
import time

from nbd_client import Client


def main():
    path, size, output, pid = sys.argv[1], int(sys.argv[2]), sys.argv[3], int(sys.argv[4])
    client = Client(path)
    client.negotiate()
    client.request(0, 0, size)
    client.receive_reply()
    data = client.receive(1000)
    os.kill(pid, signal.SIGTERM)
    # Slower than the server, but within its patience.
    while len(data) < size:
        time.sleep(0.01)
        data += client.receive(min(1 << 19, size - len(data)))
    if client.socket.recv(1):
        sys.exit("the server said more than it was asked for")
    with open(output + ".part", "wb") as file:
        file.write(data)
    os.rename(output + ".part", output)


main()
