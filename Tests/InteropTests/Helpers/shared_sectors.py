# SPDX-License-Identifier: Apache-2.0
"""Four clients write at the same time, each to its own bytes, which share sectors and clusters with those of the others.

Usage: shared_sectors.py URI ROUNDS

Each byte has to be what its owner wrote last; each owner flushes on one connection what all have written.
"""

import sys
import threading

import nbd

uri, rounds = sys.argv[1], int(sys.argv[2])
WRITERS, STRIPE, SPAN = 4, 700, 700 * 4 * 220
failures = []


def value(writer, stripe, turn):
    return bytes([(writer * 61 + stripe * 7 + turn * 13) % 255 + 1])


def done(error):
    if error.value:
        failures.append(error.value)
    return 1


def write(writer):
    try:
        handle = nbd.NBD()
        handle.connect_uri(uri)
        assert handle.can_multi_conn()
        for turn in range(rounds):
            for stripe in range(SPAN // STRIPE // WRITERS):
                start = (stripe * WRITERS + writer) * STRIPE
                bytes_ = nbd.Buffer.from_bytearray(bytearray(value(writer, stripe, turn) * STRIPE))
                handle.aio_pwrite(bytes_, start, completion=done)
                while handle.aio_in_flight() >= 16:
                    handle.poll(-1)
            while handle.aio_in_flight():
                handle.poll(-1)
        handle.flush()
        handle.shutdown()
    except Exception as error:
        failures.append(error)


threads = [threading.Thread(target=write, args=(writer,)) for writer in range(WRITERS)]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()
assert not failures, failures
reader = nbd.NBD()
reader.connect_uri(uri)
found = reader.pread(SPAN, 0)
for writer in range(WRITERS):
    for stripe in range(SPAN // STRIPE // WRITERS):
        start = (stripe * WRITERS + writer) * STRIPE
        assert found[start : start + STRIPE] == value(writer, stripe, rounds - 1) * STRIPE, (writer, stripe)
