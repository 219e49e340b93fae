# SPDX-License-Identifier: Apache-2.0
"""The clients: what each does with a server, and what it measures."""

import contextlib
import dataclasses
import json
import tempfile
import time

from .process import Failed, cpu_seconds, run


@dataclasses.dataclass(frozen=True)
class Outcome:
    """What one measurement gave: `value` in the unit of its cell, and the server's processor seconds per GiB."""
    value: float
    cpu: float


@dataclasses.dataclass(frozen=True)
class Cell:
    """A kind of work. `copies`: whether it takes as long as copying the disk takes, or the time that fio is given."""
    name: str
    label: str
    unit: str
    copies: bool
    work: object

    def measure(self, server, images, options):
        """Does the work once. Raises Failed when a program fails or the server ends."""
        before = cpu_seconds(server.pid)
        value, transferred = self.work(server, images, options)
        server.check()
        return Outcome(value, (cpu_seconds(server.pid) - before) / max(transferred / (1 << 30), 1e-9))


def nbdcopy(*connections):
    def work(server, images, options):
        start = time.monotonic()
        for _ in range(options.copies):
            run("nbdcopy", *connections, server.uri, "null:")
        mebibytes = images.mebibytes * options.copies
        return mebibytes / (time.monotonic() - start), mebibytes << 20
    return work


def convert(server, images, _):
    """qemu-img writes a raw file, to memory if there is room."""
    with tempfile.TemporaryDirectory(prefix="nbdecrypt-bench-", dir=images.fast_directory()) as directory:
        start = time.monotonic()
        run("qemu-img", "convert", "-f", "raw", "-O", "raw", server.uri, f"{directory}/disk")
        return images.mebibytes / (time.monotonic() - start), images.mebibytes << 20


def fio(server, seconds, pattern, block, depth, jobs=1, more=()):
    """Reads or writes with fio's nbd engine; gives requests in a second, and bytes."""
    output = run("fio", "--name=job", "--ioengine=nbd", f"--uri={server.uri}", f"--rw={pattern}", f"--bs={block}",
                 f"--iodepth={depth}", f"--numjobs={jobs}", "--thread", "--group_reporting", "--time_based",
                 f"--runtime={seconds}", "--output-format=json", *more)
    way = "write" if "write" in pattern else "read"
    with contextlib.suppress(ValueError, KeyError, IndexError):
        job = json.loads(output[output.index("{"):])["jobs"][0]
        if not job["error"] and job[way]["total_ios"]:
            return job[way]["iops"], job[way]["io_bytes"]
    raise Failed(f"fio could not {way} anything: {server.words[0]}")


def random_reads(block, depth):
    """Thousands of reads in a second."""
    def work(server, _, options):
        rate, transferred = fio(server, options.seconds, "randread", block, depth)
        return rate / 1000, transferred
    return work


def sequential_reads(server, _, options):
    """MiB in a second, 4 reads of 1 MiB at once."""
    rate, transferred = fio(server, options.seconds, "read", "1m", 4)
    return rate, transferred


CELLS = {cell.name: cell for cell in (
    Cell("nbdcopy", "nbdcopy", "MiB/s", True, nbdcopy()),
    Cell("nbdcopy-C1", "nbdcopy -C 1", "MiB/s", True, nbdcopy("-C", "1")),
    Cell("convert", "qemu-img convert", "MiB/s", True, convert),
    Cell("fio-4k-1", "4 KiB random, depth 1", "k/s", False, random_reads("4k", 1)),
    Cell("fio-4k-16", "4 KiB random, depth 16", "k/s", False, random_reads("4k", 16)),
    Cell("fio-4k-64", "4 KiB random, depth 64", "k/s", False, random_reads("4k", 64)),
    Cell("fio-64k-8", "64 KiB random, depth 8", "k/s", False, random_reads("64k", 8)),
    Cell("fio-1m", "1 MiB sequential, depth 4", "MiB/s", False, sequential_reads),
)}
