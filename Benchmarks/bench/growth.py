# SPDX-License-Identifier: Apache-2.0
"""Growth curves: what happens when one thing grows: the image, the connections, the chain, the requests in flight."""

import contextlib
import dataclasses
import functools

from .clients import CELLS, fio
from .nbd import Client
from .process import Failed, settled_memory
from .results import Row
from .servers import Server, cannot, command, first_byte, qemu_chain_options, servers

QCOW2_PEERS = ("qemu-nbd",)
FIRST_READ = "image size, GiB: first read, AES"
SIZE_MEMORY = "image size, GiB: resident memory, AES"
CONNECTION_MEMORY = "connections: memory of an idle connection, AES"
CONNECTION_READS = "connections: 4 KiB reads, AES"
CHAIN_COPY = "chain depth: nbdcopy, AES"
CHAIN_READS = "chain depth: 4 KiB reads at depth 16, AES"
FLIGHT_KINDS = {"requests in flight: 4 KiB reads, AES": "qcow2-aes",
                "requests in flight: 4 KiB reads, LUKS1 aes-xts": "luks1-xts"}
CURVES = (FIRST_READ, SIZE_MEMORY, CONNECTION_MEMORY, CONNECTION_READS, CHAIN_COPY, CHAIN_READS, *FLIGHT_KINDS)


@dataclasses.dataclass(frozen=True)
class Point:
    """A point of a curve for one server. `action` gives the value."""
    row: Row
    server: str
    unit: str
    seconds: float
    action: object


class Growth:
    def __init__(self, session, rounds, quick):
        self.session, self.rounds = session, rounds
        self.sizes = (1, 16384) if quick else (1, 16, 256, 4096, 16384)
        self.connections = (1, 64) if quick else (1, 4, 16, 64, 256, 1000)
        self.depths = (1, 4) if quick else (1, 2, 4, 8, 16)
        self.flights = (1, 16, 256) if quick else (1, 2, 4, 8, 16, 32, 64, 128, 256)
        self.chain_mebibytes = min(64 if quick else 256, session.images.mebibytes)
        points = [*self._size(), *self._connections(), *self._chain(), *self._flight()]
        self.points = [point for point in points if rounds and session.wants(point.row)]

    def prerequisites(self):
        """What has to be made first: by name, functions that make it."""
        images, made = self.session.images, {}
        for row in dict.fromkeys(point.row for point in self.points):
            number = int(row.cell)
            if row.item in (FIRST_READ, SIZE_MEMORY):
                made[f"sparse, {number} GiB"] = functools.partial(images.sparse, number)
            elif row.item in (CHAIN_COPY, CHAIN_READS):
                made[f"chain of {number}"] = functools.partial(images.chain, number, self.chain_mebibytes)
            else:
                kind = FLIGHT_KINDS.get(row.item, "qcow2-aes")
                made[kind] = functools.partial(images.path, kind)
        return made

    def seconds(self):
        return self.rounds * sum(point.seconds for point in self.points)

    def run(self):
        for number in range(self.rounds if self.points else 0):
            for point in self.points:
                self.session.measured(point.row, point.server, number, point.unit, point.action, point.seconds)
            self.session.milestone(f"growth: round {number + 1} of {self.rounds} done")

    def _size(self):
        """The passphrase is checked here: the data are letters, not noise."""
        for size in self.sizes:
            for index, (item, unit) in enumerate(((FIRST_READ, "ms"), (SIZE_MEMORY, "MiB"))):
                for server in servers(QCOW2_PEERS):
                    yield Point(Row("growth", item, f"{size}"), server, unit, 0.3,
                                functools.partial(self._start, server, size, index))

    def _start(self, server, size, index):
        images = self.session.images
        make = functools.partial(command, server, "qcow2-aes", images.sparse(size), images, check_passphrase=True)
        starts = sorted(first_byte(make, offset=-4096) for _ in range(5))
        return starts[2][index]

    def _connections(self):
        for count in self.connections:
            for server in servers(QCOW2_PEERS):
                if count > 1:
                    yield Point(Row("growth", CONNECTION_MEMORY, f"{count}"), server, "KiB", 1.5 + count / 500,
                                functools.partial(self._idle, server, count))
            for server in servers(QCOW2_PEERS):
                yield Point(Row("growth", CONNECTION_READS, f"{count}"), server, "k/s",
                            self.session.options.seconds + 1 + count / 100,
                            functools.partial(self._busy, server, count))

    def _aes_server(self, server, connections):
        images = self.session.images
        return Server(functools.partial(command, server, "qcow2-aes", images.path("qcow2-aes"), images,
                                        connections=connections))

    def _idle(self, server, count):
        """KiB of resident memory that a connection costs which has chosen the export and does nothing."""
        with self._aes_server(server, count + 10) as running, contextlib.ExitStack() as clients:
            before = settled_memory(running.pid)
            for _ in range(count):
                clients.callback(Client(running.socket).close)
            return (settled_memory(running.pid) - before) * 1024 / count

    def _busy(self, server, count):
        with self._aes_server(server, 2 * count + 10) as running:
            return fio(running, self.session.options.seconds, "randread", "4k", 4, jobs=count)[0] / 1000

    def _chain(self):
        for depth in self.depths:
            for item, unit in ((CHAIN_COPY, "MiB/s"), (CHAIN_READS, "k/s")):
                for server in servers(QCOW2_PEERS):
                    yield Point(Row("growth", item, f"{depth}"), server, unit, self.session.options.seconds + 1,
                                functools.partial(self._chained, server, depth, item))

    def _chained(self, server, depth, item):
        images = self.session.images
        paths = images.chain(depth, self.chain_mebibytes)

        def make(socket):
            words = command(server, "qcow2-aes", paths[0], images, socket)
            return [*words[:-1], qemu_chain_options(paths)] if server == "qemu-nbd" else words

        with Server(make) as running:
            small = ChainDisk(self.chain_mebibytes)
            if item == CHAIN_COPY:
                CELLS["nbdcopy"].measure(running, small, self.session.options)
                return CELLS["nbdcopy"].measure(running, small, self.session.options).value
            return fio(running, self.session.options.seconds, "randread", "4k", 16)[0] / 1000

    def _flight(self):
        for item, kind in FLIGHT_KINDS.items():
            for depth in self.flights:
                for server in servers():
                    if cannot(server, kind) is None:
                        yield Point(Row("growth", item, f"{depth}"), server, "k/s", self.session.options.seconds + 1,
                                    functools.partial(self._in_flight, server, kind, depth))

    def _in_flight(self, server, kind, depth):
        images = self.session.images
        with Server(functools.partial(command, server, kind, images.path(kind), images)) as running:
            return fio(running, self.session.options.seconds, "randread", "4k", depth)[0] / 1000


@dataclasses.dataclass(frozen=True)
class ChainDisk:
    """How large the disk of a chain is, for a cell that copies it."""
    mebibytes: int
