# SPDX-License-Identifier: Apache-2.0
"""Writing: every kind of image that peers write, by every server that does, in every cell; each image is looked at
afterwards. And flushes of the file, and memory."""

import contextlib
import dataclasses
import functools
import os
import random
import time

from . import contents, peers
from .clients import fio
from .nbd import FLAG_FUA, Client
from .process import Failed, cpu_seconds, memory, run, words
from .results import Row
from .servers import LIMIT, OWN_RAW, Server, cannot, command, servers

KINDS = ("qcow2-luks", "luks1-xts", "qcow2-aes", "luks1-essiv")
# Of which memory is measured: a qcow2 image, whose tables change, and the one that nbdkit writes, too.
MEMORY_KINDS = KINDS[:2]
BUSY = {"64 writing, 4 KiB": ("4k", 16), "64 writing, 256 KiB": ("256k", 4)}
FLUSHES = "1,000 × 64 KiB, one flush"
FLUSH_SIZES = (1, 256)


@dataclasses.dataclass(frozen=True)
class Copy:
    """A file is copied into the image by nbdcopy: over data, or into an image that has none."""
    name: str
    label: str
    fresh: bool
    connections: tuple = ()
    unit = "MiB/s"
    kinds = KINDS


@dataclasses.dataclass(frozen=True)
class Scatter:
    """Blocks are written at random places of a part of the disk of its own: `part` of PARTS."""
    name: str
    label: str
    part: int
    block: int
    depth: int
    with_fua: bool = False
    kinds: tuple = KINDS
    unit = "k/s"

    PARTS = 4

    def place(self, mebibytes):
        step = (mebibytes << 20) // self.PARTS
        return self.part * step, (self.part + 1) * step

    @property
    def byte(self):
        return 0x41 + self.part

    def work(self, running, mebibytes, seconds):
        """Gives thousands of writes in a second, and what is there afterwards."""
        start, end = self.place(mebibytes)
        places = (end - start) // self.block
        if self.with_fua:
            client = Client(running.socket)
            try:
                begin = time.monotonic()
                offsets = (start + place * self.block for place in random.sample(range(places), places))
                count = client.write_each(offsets, bytes([self.byte]) * self.block, self.depth, FLAG_FUA, seconds)
                rate = count / (time.monotonic() - begin)
            finally:
                client.close()
        else:
            rate, transferred = fio(running, seconds, "randwrite", self.block, self.depth,
                                    more=(f"--offset={start}", f"--size={end - start}", f"--buffer_pattern={self.byte}"))
            count = transferred // self.block
        # Neither comes to a place again before it has been at all.
        return rate / 1000, contents.Scattered(start, end, self.block, self.byte, min(count, places))


CELLS = {cell.name: cell for cell in (
    Copy("over", "nbdcopy over data", False),
    Copy("over-C1", "nbdcopy -C 1 over data", False, ("-C", "1")),
    Copy("fresh", "nbdcopy into a fresh image", True),
    Copy("fresh-C1", "nbdcopy -C 1 into a fresh image", True, ("-C", "1")),
    Scatter("4k-16", "4 KiB random, depth 16", 0, 4096, 16),
    Scatter("4k-64", "4 KiB random, depth 64", 1, 4096, 64),
    Scatter("512-16", "512 B random, depth 16", 2, 512, 16, kinds=MEMORY_KINDS),
    Scatter("fua-4k-16", "4 KiB random with FUA, depth 16", 3, 4096, 16, with_fua=True),
)}


class Target:
    """An image of a kind that one server writes. `holds`: the file with the disk that is in it, or None if that is not
    known."""

    def __init__(self, images, kind, server, suffix=""):
        self.images, self.server = images, server
        self.kind = "raw" if server == OWN_RAW else kind
        self.path = images.directory / f"write-{kind}-{server.replace(' ', '-')}{suffix}"
        self.holds = None

    def create(self):
        """Makes an image without data."""
        self.remove()
        if self.server != LIMIT:
            self.images.fresh(self.kind, self.path)

    def fill(self, known=False):
        """Has an image that is full; with `known`, of a disk that is known."""
        if self.server != LIMIT and (not self.path.exists() or known and self.holds is None):
            self.remove()
            run("cp", self.images.path(self.kind), self.path)
            self.holds = self.images.path("raw")

    def settle(self):
        """Has on the disk what was written; that of other programs is not waited for."""
        if self.server != LIMIT:
            with open(self.path, "rb") as file:
                os.fsync(file.fileno())

    def serve(self, connections=16):
        return Server(functools.partial(command, self.server, self.kind, self.path, self.images,
                                        connections=connections, writable=True))

    def copied(self, source):
        """Raises Failed when the image is not a copy of `source`."""
        if self.server != LIMIT:
            contents.check_copy(self.images, self.kind, self.path, source)
        self.holds = source

    def scattered(self, parts):
        """Raises Failed when the image has not what it had, and `parts`."""
        source, self.holds = self.holds, None
        if self.server != LIMIT:
            contents.check_scattered(self.images, self.kind, self.path, source, parts)

    def remove(self):
        self.path.unlink(missing_ok=True)
        self.holds = None


class Writes:
    def __init__(self, session, rounds, growth_rounds):
        self.session, self.rounds = session, rounds
        self.plan = {}
        for kind in KINDS:
            cells = [cell for cell in CELLS.values() if kind in cell.kinds and session.wants(Row("write", kind, cell.name))]
            if cells and rounds:
                self.plan[kind] = ([*(server for server in servers() if cannot(server, kind) is None), OWN_RAW, LIMIT],
                                   cells)
        self.growth_rounds = growth_rounds
        self.memory = [(kind, server, cell) for kind in MEMORY_KINDS for cell in BUSY for server in servers()
                       if growth_rounds and cannot(server, kind) is None and session.wants(Row("memory", kind, cell))]
        self.flushes = [(size, server) for size in FLUSH_SIZES for server in servers(("qemu-nbd",))
                        if rounds and session.wants(self._flush_row(size))]

    @staticmethod
    def _flush_row(size):
        return Row("flushes", f"qcow2 LUKS, {size} GiB", FLUSHES)

    def names(self):
        yield from (f"write/{kind}/{cell.name}" for kind, (_, cells) in self.plan.items() for cell in cells)
        yield from dict.fromkeys(f"memory/{kind}/{cell}" for kind, _, cell in self.memory)
        yield from dict.fromkeys(str(self._flush_row(size)) for size, _ in self.flushes)

    def prerequisites(self):
        images, made = self.session.images, {}
        for kind in {**self.plan, **{kind: None for kind, *_ in self.memory}}:
            made |= {name: functools.partial(images.path, name) for name in ("raw", kind)}
            made["other"] = images.other
        return made

    # --- the time that it takes

    def _seconds(self, cell):
        if isinstance(cell, Scatter):
            return self.session.options.seconds + 0.6
        return 6 * self.session.images.mebibytes / 1024 + 0.5

    def seconds(self):
        rounds = sum(self._seconds(cell) * len(servers) for servers, cells in self.plan.values() for cell in cells)
        return (self.rounds * rounds + self.growth_rounds * len(self.memory) * (self.session.options.seconds + 3)
                + len(self.flushes) * 4)

    # --- running

    def run(self):
        for kind, (servers, cells) in self.plan.items():
            targets = [Target(self.session.images, kind, server) for server in servers]
            try:
                for number in range(self.rounds):
                    self._copies(kind, number, targets, [cell for cell in cells if isinstance(cell, Copy)])
                    self._scattered(kind, number, targets, [cell for cell in cells if isinstance(cell, Scatter)])
            finally:
                for target in targets:
                    target.remove()
            self.session.milestone(f"write: {kind} done")
        for number in range(self.growth_rounds):
            for kind, server, cell in self.memory:
                self.session.measured(Row("memory", kind, cell), server, number, "MiB",
                                      functools.partial(self._memory, kind, server, cell),
                                      self.session.options.seconds + 3)
        for size, server in self.flushes:
            self.session.measured(self._flush_row(size), server, 0, "flushes", functools.partial(self._flushes, size, server),
                                  4)

    def _turns(self, number, index, targets):
        """The targets, each time from another one on."""
        turn = (number + index) % max(len(targets), 1)
        return targets[turn:] + targets[:turn]

    def _copies(self, kind, number, targets, cells):
        """One server runs at a time: the image is looked at when it has ended."""
        for index, cell in enumerate(cells):
            for target in self._turns(number, index, targets):
                self.session.measured(Row("write", kind, cell.name), target.server, number, cell.unit,
                                      functools.partial(self._copy, cell, target, Row("write cpu", kind, cell.name), number),
                                      self._seconds(cell))

    def _copy(self, cell, target, cpu_row, number):
        images = self.session.images
        with contextlib.ExitStack() as stack:
            if cell.fresh:
                target = Target(images, target.kind, target.server, "-fresh")
                stack.callback(target.remove)
                target.create()
            else:
                target.fill()
            source = images.other() if target.holds != images.other() else images.path("raw")
            target.holds = None
            # What was written before must not be on its way to the disk now.
            target.settle()
            self.session.quiet.wait()
            with target.serve() as running:
                before, start = cpu_seconds(running.pid), time.monotonic()
                run("nbdcopy", *cell.connections, source, running.uri)
                rate = images.mebibytes / (time.monotonic() - start)
                cpu = (cpu_seconds(running.pid) - before) / (images.mebibytes / 1024)
                running.check()
            target.copied(source)
            self.session.results.add(cpu_row, target.server, number, cpu, "s/GiB")
            return rate

    def _scattered(self, kind, number, targets, cells):
        """All servers run, and every cell visits them one after the other; the images are looked at in the end."""
        if not cells:
            return
        images, written = self.session.images, {}
        with contextlib.ExitStack() as stack:
            running = {}
            for target in targets:
                try:
                    target.fill(known=True)
                    running[target] = stack.enter_context(target.serve())
                except (Failed, OSError) as error:
                    self.session.failed(Row("write", kind, "*"), target.server, error)
            for index, cell in enumerate(cells):
                for target in running:
                    target.settle()
                for target in self._turns(number, index, [*running]):
                    def action(target=target, cell=cell):
                        rate, part = cell.work(running[target], images.mebibytes, self.session.options.seconds)
                        written.setdefault(target, []).append(part)
                        running[target].check()
                        return rate
                    self.session.measured(Row("write", kind, cell.name), target.server, number, cell.unit, action,
                                          self._seconds(cell))
        for target, parts in written.items():
            try:
                target.scattered(parts)
            except (Failed, OSError) as error:
                self.session.failed(Row("write", kind, "*"), target.server, error)

    def _memory(self, kind, server, cell):
        images = self.session.images
        block, depth = BUSY[cell]
        target = Target(images, kind, server)
        try:
            target.fill(known=True)
            with target.serve(connections=200) as running:
                fio(running, self.session.options.seconds, "randwrite", block, depth, jobs=64,
                    more=("--buffer_pattern=0x41",))
                most = memory(running.pid, "VmHWM")
            # Many jobs write the same places: how many there are in the end is not known.
            target.scattered([contents.Scattered(0, images.mebibytes << 20, 4096, 0x41, None)])
            return most
        finally:
            target.remove()

    def _flushes(self, size, server):
        """How often the file is flushed while 1,000 clusters all over the disk are written for the first time, and
        then one flush is asked for."""
        images = self.session.images
        path, log = images.directory / "write-flushes", images.directory / "write-flushes.strace"
        path.unlink(missing_ok=True)
        places = random.Random(size).sample(range(size << 14), 1000)
        try:
            images.create_qcow2_luks(path, f"{size}G")

            def make(socket):
                return ["strace", "-D", "-f", "-qq", "-o", log, "-e", "trace=fsync,fdatasync,sync_file_range",
                        *peers.inside(words(command(server, "qcow2-luks", path, images, socket, writable=True)))]

            def calls():
                return sum("sync" in line and "resumed" not in line for line in log.read_text().splitlines())

            with Server(make) as running:
                client = Client(running.socket)
                try:
                    before = calls()
                    client.write_each((place << 16 for place in places), bytes(1 << 15) + bytes([0x41]) * (1 << 15), 16)
                    client.flush()
                    count = calls() - before
                finally:
                    client.close()
            contents.check_image(images, "qcow2-luks", path)
            return count
        finally:
            path.unlink(missing_ok=True)
            log.unlink(missing_ok=True)
