# SPDX-License-Identifier: Apache-2.0
"""Kills a server in the middle of writes, again and again.

Usage: killed_writes.py COUNT SEED SIZE DIRECTORY CHECK CONVERT SERVER...

SERVER is a command that serves an image of SIZE bytes, all zeros, on DIRECTORY/s; CHECK examines the image and CONVERT writes
its disk to DIRECTORY/out. After each kill the image has to be sound, and each sector has to be one of what was written to it
since the last flush that succeeded.
"""

import os
import random
import subprocess
import sys
import time

import nbd

count, seed, size, directory, check, convert = sys.argv[1:7]
server = sys.argv[7:]
count, size = int(count), int(size)
rng = random.Random(seed)
SECTOR = 512
# What each sector may be: the last one is what was written last.
possible = [[bytes(SECTOR)] for _ in range(size // SECTOR)]
written = 0


def start():
    socket = f"{directory}/s"
    if os.path.exists(socket):
        os.unlink(socket)
    process = subprocess.Popen(server, stdout=subprocess.DEVNULL, stderr=open(f"{directory}/errors", "w"))
    deadline = time.time() + 60
    while True:
        handle = nbd.NBD()
        try:
            handle.connect_uri(f"nbd+unix:///?socket={socket}")
            return process, handle
        except nbd.Error:
            if process.poll() is not None or time.time() > deadline:
                sys.exit(f"the server does not answer: {open(f'{directory}/errors').read()}")
            time.sleep(0.002)


def done(error):
    if error.value:
        sys.exit(f"a request failed: error {error.value}")
    return 1


def load(handle, end):
    """Writes, zeroes and flushes until `end`, then leaves some requests under way."""
    global written
    while time.time() < end:
        for _ in range(rng.randint(1, 12)):
            first = rng.randrange(size // SECTOR)
            sectors = min(rng.choice([1, 8, 40, 200]), size // SECTOR - first)
            if rng.randrange(4) == 0:
                new = [bytes(SECTOR)] * sectors
                handle.aio_zero(sectors * SECTOR, first * SECTOR, completion=done)
            else:
                new = [bytes([rng.randrange(1, 256)]) * SECTOR for _ in range(sectors)]
                handle.aio_pwrite(nbd.Buffer.from_bytearray(bytearray(b"".join(new))), first * SECTOR, completion=done)
            # Requests that overlap may be done in any order: each is waited for.
            for index, sector in enumerate(new):
                possible[first + index].append(sector)
            while handle.aio_in_flight():
                if time.time() > end:
                    return
                handle.poll(1000)
            written += 1
        if rng.randrange(3) == 0:
            handle.flush()
            for index, values in enumerate(possible):
                del values[:-1]


for number in range(count):
    process, handle = start()
    load(handle, time.time() + rng.uniform(0.002, 0.06))
    process.kill()
    process.wait()
    del handle
    outcome = subprocess.run(check, shell=True, capture_output=True, text=True)
    if outcome.returncode not in (0, 3):
        sys.exit(f"after kill {number}: {outcome.stdout}{outcome.stderr}")
    subprocess.run(convert, shell=True, check=True)
    with open(f"{directory}/out", "rb") as disk:
        for index, values in enumerate(possible):
            found = disk.read(SECTOR)
            if found not in values:
                sys.exit(f"after kill {number}: sector {index} is none of {len(values)} that it may be")
            # It is on disk, and what it was before is not there any more.
            values[:] = [found]
print(written)
