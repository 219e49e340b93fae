# SPDX-License-Identifier: Apache-2.0
"""Random verbs on a writable export, compared with bytes in memory.

Usage: random_writes.py URI CLUSTER COUNT SEED FILE

FILE holds the disk as it is; afterwards, as it has to be. Prints the last verbs when something differs.
"""

import random
import sys

import nbd

uri, cluster, count, seed, path = sys.argv[1:]
cluster, count = int(cluster), int(count)
rng = random.Random(seed)
disk = bytearray(open(path, "rb").read())
size = len(disk)
handle = nbd.NBD()
handle.connect_uri(uri)
assert handle.get_size() == size, (handle.get_size(), size)
assert not handle.is_read_only() and handle.can_flush() and handle.can_fua() and handle.can_trim() and handle.can_zero()
noise = rng.randbytes(1 << 20)
history = []


def place():
    """An offset and a length: whole clusters, whole sectors, or anything."""
    unit = rng.choice([cluster, cluster, 512, 4096, 1])
    offset = rng.randrange(size) // unit * unit
    limit = min(size - offset, rng.choice([3 * cluster, 64 << 10, 3 * 512]), 256 << 10)
    length = rng.randint(1, limit)
    return offset, max(length // unit * unit, min(unit, limit))


def flags(*others):
    # Seldom: a disk takes its time for each.
    chosen = nbd.CMD_FLAG_FUA if rng.randrange(150) == 0 else 0
    for other in others:
        if rng.randrange(2):
            chosen |= other
    return chosen


def fail(what, offset, length):
    print(f"verb {len(history)}: {what} of {length} bytes at {offset} differs; before:", *history[-12:], sep="\n")
    sys.exit(1)


def trimmed(offset, length):
    """Nobody knows what it reads as: but each sector is as it was, or zeros."""
    found = handle.pread(length, offset)
    position = offset
    while position < offset + length:
        end = min(position // 512 * 512 + 512, offset + length)
        part = found[position - offset : end - offset]
        if part != disk[position:end] and part != bytes(end - position):
            fail("what was trimmed", position, end - position)
        position = end
    disk[offset : offset + length] = found


def compare(offset, length):
    if handle.pread(length, offset) != disk[offset : offset + length]:
        fail("read", offset, length)


for number in range(count):
    offset, length = place()
    verb = rng.choices(["write", "read", "zero", "trim", "flush"], [80, 60, 30, 20, 1])[0]
    if verb == "write":
        start = rng.randrange(len(noise) - length + 1)
        how = flags()
        handle.pwrite(noise[start : start + length], offset, how)
        disk[offset : offset + length] = noise[start : start + length]
    elif verb == "zero":
        how = flags(nbd.CMD_FLAG_NO_HOLE)
        handle.zero(length, offset, how)
        disk[offset : offset + length] = bytes(length)
    elif verb == "trim":
        how = flags()
        handle.trim(length, offset, how)
        trimmed(offset, length)
    elif verb == "flush":
        how = 0
        handle.flush()
    else:
        how = 0
        compare(offset, length)
    history.append(f"{verb} {offset} {length} {how}")
    if number % 1000 == 999 or number == count - 1:
        for start in range(0, size, 1 << 20):
            compare(start, min(1 << 20, size - start))
handle.shutdown()
open(path, "wb").write(disk)
