#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Clients that misbehave, one scenario a run. Fails when the server does not react as it should.

    bad_clients.py PLACE SCENARIO

PLACE is the path of a Unix socket, or ADDRESS:PORT.
"""
import random
import resource
import socket
import struct
import sys
import time

import nbd_client as nbd
from nbd_client import Client

MIB = 1 << 20
PLACE = sys.argv[1]
ACK, ERR_UNSUP, ERR_POLICY, ERR_INVALID = 1, 0x80000001, 0x80000002, 0x80000003
ERR_UNKNOWN, ERR_TOO_BIG = 0x80000006, 0x80000009
randomness = random.Random(1)


def negotiated():
    client = Client(PLACE)
    client.negotiate()
    return client


def greeted(flags=3):
    client = Client(PLACE)
    client.greet(flags)
    return client


def expect(condition, *what):
    if not condition:
        raise AssertionError(what)


def expect_alive(client):
    """Is the connection still good for a read?"""
    expect(len(client.read(512, 1000)) == 1000)


def expect_option(client, number, data, reply):
    client.option(number, data)
    option, kind, _ = client.option_reply()
    expect((option, kind) == (number, reply), number, data[:20], hex(kind))


def garbage():
    """Random bytes in every phase: the server hangs up."""
    for count in [1, 3, 4, 5, 16, 17, 1000, 100_000]:
        for start in [lambda: Client(PLACE), greeted, negotiated]:
            client = start()
            try:
                # The first byte is wrong in every phase: unknown flags, no IHAVEOPT, no request magic.
                client.send(b"\xff" + randomness.randbytes(count - 1))
                client.socket.shutdown(socket.SHUT_WR)
                while client.socket.recv(65536):
                    pass
            except OSError:
                pass
            client.close()


def wrong_magic():
    client = greeted()
    client.option(nbd.LIST, magic=nbd.IHAVEOPT + 1)
    expect(client.is_closed())
    client = negotiated()
    client.request(nbd.READ, 0, 512, magic=nbd.REQUEST_MAGIC ^ 1)
    expect(client.is_closed())
    for flags in [4, 0x80000000, 0xFFFFFFFF]:
        expect(greeted(flags).is_closed(), flags)
    for number in [nbd.LIST, nbd.INFO, nbd.GO, nbd.STRUCTURED_REPLY]:
        client = greeted(0)
        client.option(number)
        expect(client.is_closed(), "without fixed newstyle", number)


def half_headers():
    """Parts of messages, byte by byte and then no more."""
    messages = [
        (lambda: Client(PLACE), struct.pack(">I", 3)),
        (greeted, struct.pack(">QII", nbd.IHAVEOPT, nbd.LIST, 0)),
        (greeted, struct.pack(">QII", nbd.IHAVEOPT, nbd.GO, 6) + struct.pack(">IH", 0, 0)),
        (negotiated, struct.pack(">IHHQQI", nbd.REQUEST_MAGIC, 0, nbd.READ, 1, 0, 512)),
    ]
    for start, message in messages:
        for count in range(1, len(message)):
            client = start()
            client.send(message[:count])
            client.close()
    # In pieces they are as good as whole.
    client = Client(PLACE)
    client.receive(18)
    for byte in struct.pack(">I", 3) + struct.pack(">QII", nbd.IHAVEOPT, nbd.EXPORT_NAME, 0):
        client.send(bytes([byte]))
        time.sleep(0.001)
    client.receive(10)
    for byte in struct.pack(">IHHQQI", nbd.REQUEST_MAGIC, 0, nbd.READ, 1, 0, 512):
        client.send(bytes([byte]))
        time.sleep(0.001)
    expect(client.receive_reply() == 0 and len(client.receive(512)) == 512)


def option_flood():
    """Thousands of options: the server hangs up after some, whether the replies are read or not."""
    client = greeted()
    count = 0
    try:
        while count < 10_000:
            expect_option(client, nbd.STRUCTURED_REPLY, b"", ACK)
            count += 1
    except (EOFError, OSError):
        pass
    expect(20 < count < 10_000, count)
    for number, data in [(nbd.LIST, b""), (77, bytes(1000)), (77, bytes(60_000))]:
        client = greeted()
        flood = struct.pack(">QII", nbd.IHAVEOPT, number, len(data)) + data
        # It may listen for some seconds more, but then it has gone.
        end = time.monotonic() + 14
        try:
            while time.monotonic() < end:
                client.send(flood)
            raise AssertionError("the server takes options for ever")
        except OSError:
            pass
        client.close()


def giant_options():
    for length in [0xFFFFFFFF, 0x80000000, 1 << 20, 65537]:
        for number in [nbd.EXPORT_NAME, nbd.LIST, nbd.GO, 77]:
            client = greeted()
            client.option(number, length=length)
            expect(client.is_closed(), number, length)
    # What is only too long is skipped, and the negotiation goes on.
    client = greeted()
    for length in [65536, 20_000, 16_385]:
        expect_option(client, nbd.GO, bytes(length), ERR_TOO_BIG)
    expect_option(client, nbd.LIST, b"x", ERR_INVALID)
    client.option(nbd.EXPORT_NAME)
    client.receive(10)
    expect_alive(client)


def wrong_options():
    client = greeted()
    for number in [0, 4, 77, 0x7FFFFFFF, 0xFFFFFFFF]:
        expect_option(client, number, b"", ERR_UNSUP)
        expect_option(client, number, bytes(100), ERR_UNSUP)
    for number in [nbd.LIST, nbd.STARTTLS, nbd.STRUCTURED_REPLY, nbd.LIST_META_CONTEXT, nbd.SET_META_CONTEXT, 11]:
        expect_option(client, number, bytes(99), ERR_INVALID)
    expect_option(client, nbd.STARTTLS, b"", ERR_POLICY)
    for data in [b"", b"\0", struct.pack(">I", 0), struct.pack(">IH", 1, 0), struct.pack(">IH", 0xFFFFFFFF, 0),
                 struct.pack(">IH", 0, 1), struct.pack(">IH", 0, 0xFFFF) + bytes(100), struct.pack(">IH", 0, 0) + b"x",
                 struct.pack(">I", 100) + bytes(10)]:
        expect_option(client, nbd.INFO, data, ERR_INVALID)
        expect_option(client, nbd.GO, data, ERR_INVALID)
    for name in [b"other", b"\xff\xfe", b"a\0b", b"n" * 4096]:
        expect_option(client, nbd.GO, struct.pack(">I", len(name)) + name + b"\0\0", ERR_UNKNOWN)
    # The same information many times, and information that nobody knows.
    infos = [3] * 100 + [77] * 100
    client.option(nbd.GO, struct.pack(f">IH{len(infos)}H", 0, len(infos), *infos))
    replies = 0
    while (reply := client.option_reply())[1] != ACK:
        expect(reply[1] == 3, reply)
        replies += 1
    expect(replies <= 6, replies)
    expect_alive(client)
    for name in [b"other", b"n" * 4096, b"n" * 4097, b"\0"]:
        client = greeted()
        client.option(nbd.EXPORT_NAME, name)
        while client.socket.recv(100):
            # An error reply before the end is fine, a disk is not.
            pass
    client = greeted()
    client.option(nbd.ABORT)
    expect(client.option_reply()[1] == ACK and client.is_closed())


def wrong_requests():
    client = negotiated()
    size = client.size
    giant = [(0, 64 * MIB + 1), (0, 0x80000000), (0, 0xFFFFFFFF), (size - 1, 2), (size, 1), (size + 512, 512),
             (0xFFFFFFFFFFFFFFFF, 1), (0xFFFFFFFFFFFFFFFF, 0xFFFFFFFF), (0x8000000000000000, 512), (0, size + 1)]
    for offset, length in giant:
        expect(client.read(offset, length, cookie=offset ^ length) == nbd.EINVAL, offset, length)
        expect_alive(client)
    for offset in [0, 1, size]:
        expect(client.read(offset, 0) == b"")
    expect(len(client.read(size - 1, 1)) == 1)
    for command in [nbd.BLOCK_STATUS, 8, 9, 0x7FFF, 0xFFFF]:
        client.request(command, 0, 512)
        expect(client.receive_reply() == nbd.EINVAL, command)
    client.request(nbd.CACHE, 0, 512)
    expect(client.receive_reply() == 0)
    for command in [nbd.TRIM, nbd.WRITE_ZEROES]:
        client.request(command, 0, 512)
        expect(client.receive_reply() == nbd.EPERM, command)
    for flags in [1, 2, 4, 8, 0x8000]:
        client.request(nbd.READ, 0, 512, flags=flags)
        expect(client.receive_reply() == nbd.EINVAL, flags)
    client.request(nbd.FLUSH, 0, 0)
    expect(client.receive_reply() == 0)
    expect_alive(client)


def large_reads():
    """Up to the advertised 32 MiB at any place; several at once from one client."""
    client = negotiated()
    for cookie in range(4):
        client.request(nbd.READ, cookie * 1001, 32 * MIB, cookie)
    seen = set()
    for _ in range(4):
        magic, error, cookie = struct.unpack(">IIQ", client.receive(16))
        expect(magic == nbd.REPLY_MAGIC and error == 0)
        seen.add(cookie)
        client.receive(32 * MIB)
    expect(seen == {0, 1, 2, 3})
    expect_alive(client)


def writes():
    """The export is read-only: the payload is drained, the next request is fine."""
    client = negotiated()
    for length in [0, 1, 511, 512, 65_536, 65_537, MIB, 32 * MIB]:
        client.request(nbd.WRITE, 0, length, payload=randomness.randbytes(length))
        expect(client.receive_reply() == nbd.EPERM, length)
        expect_alive(client)
    # Pipelined with reads, and outside the disk.
    for cookie in range(20):
        client.request(nbd.WRITE, 1 << 60, 3000, cookie=2 * cookie, payload=bytes(3000))
        client.request(nbd.READ, 0, 100, cookie=2 * cookie + 1)
    errors = {}
    for _ in range(40):
        _, error, cookie = struct.unpack(">IIQ", client.receive(16))
        errors[cookie] = error
        if error == 0:
            client.receive(100)
    expect(errors == {cookie: 0 if cookie % 2 else nbd.EPERM for cookie in range(40)}, errors)
    # Nobody can be made to take gigabytes.
    client.request(nbd.WRITE, 0, 0xFFFFFFFF)
    expect(client.is_closed())
    for sent in [0, 1, 100_000, 150_000, MIB - 1]:
        for _ in range(10):
            client = negotiated()
            client.request(nbd.WRITE, 0, MIB, payload=bytes(sent))
            client.close()


def hang_ups():
    """Clients that go in the middle of a reply, in every way."""
    for received in [0, 1, 15, 16, 17, 1000, MIB]:
        for ending in ["close", "reset", "shutdown", "disconnect"]:
            client = negotiated()
            client.request(nbd.READ, 0, 16 * MIB)
            client.receive(received)
            if ending == "reset" and client.socket.family != socket.AF_UNIX:
                client.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            if ending == "shutdown":
                client.socket.shutdown(socket.SHUT_RDWR)
            if ending == "disconnect":
                client.request(nbd.DISCONNECT, 0, 0)
            client.close()
    for _ in range(50):
        client = negotiated()
        client.request(nbd.DISCONNECT, 0, 0)
        client.close()


def good_byes():
    """All replies arrive before the server hangs up after a disconnect."""
    client = negotiated()
    requests = [struct.pack(">IHHQQI", nbd.REQUEST_MAGIC, 0, nbd.READ, cookie, cookie * 512, 70_000)
                for cookie in range(200)]
    requests.append(struct.pack(">IHHQQI", nbd.REQUEST_MAGIC, 0, nbd.DISCONNECT, 0, 0, 0))
    # What comes after the disconnect is not looked at. All in one piece: many small ones could fill the socket.
    client.send(b"".join(requests) + b"garbage")
    seen = set()
    for _ in range(200):
        _, error, cookie = struct.unpack(">IIQ", client.receive(16))
        expect(error == 0)
        client.receive(70_000)
        seen.add(cookie)
    expect(len(seen) == 200 and client.is_closed())


def slow_readers():
    """Twenty clients ask for all they can get and read next to nothing."""
    clients = [negotiated() for _ in range(20)]
    for index, client in enumerate(clients):
        client.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        client.socket.setblocking(False)
        try:
            for cookie in range(1000):
                client.request(nbd.READ, 0, 32 * MIB if index % 2 else 100_000, cookie)
        except BlockingIOError:
            pass
    for _ in range(20):
        time.sleep(0.1)
        for client in clients:
            try:
                client.socket.recv(1)
            except BlockingIOError:
                pass


def idle():
    """1,000 connections that say nothing, and 300 that have negotiated and say nothing more."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(most, 4096), most))
    quiet = [negotiated() for _ in range(300)]
    crowd = [Client(PLACE) for _ in range(1000)]
    for client in crowd[:500]:
        client.socket.settimeout(20)
    # Somebody who comes now is served.
    for _ in range(20):
        client = negotiated()
        expect_alive(client)
    for client in quiet:
        expect_alive(client)
    expect(len(crowd) == 1000)


if __name__ == "__main__":
    globals()[sys.argv[2]]()
