# SPDX-License-Identifier: Apache-2.0
"""The matrix: every kind of image, by every server that opens it, in every cell; warm and cold. And starting, and
memory."""

import contextlib
import functools

from .clients import CELLS, fio
from .images import KINDS
from .process import Failed, memory, settled_memory
from .results import Row
from .servers import CEILING, OWN_RAW, Server, cannot, command, first_byte, servers

# Of which memory is measured: a cheap and a dear cipher, with and without tables.
MEMORY_KINDS = ("qcow2-aes", "luks1-xts")
BUSY = {"64 busy, 4 KiB": ("4k", 16), "64 busy, 256 KiB": ("256k", 4)}
STARTS = 5


def servers_for(kind, results):
    """Who can serve a kind, and beside an image that is not raw the two that serve its plaintext."""
    able = []
    for server in servers():
        reason = cannot(server, kind)
        if reason is None:
            able.append(server)
        else:
            results.lacks(kind, server, reason)
    return able + ([OWN_RAW, CEILING] if kind != "raw" else [])


def is_wanted(server, cell):
    """What nbdecrypt does with plaintext is compared with in copies alone."""
    return server != OWN_RAW or cell.name.startswith("nbdcopy")


class Matrix:
    """Warm or cold reads of every kind."""

    def __init__(self, session, part, rounds):
        self.session, self.part, self.rounds = session, part, rounds
        self.plan = {}
        for kind in KINDS:
            cells = [cell for cell in CELLS.values() if session.wants(Row(part, kind, cell.name))]
            if cells and rounds:
                self.plan[kind] = (servers_for(kind, session.results), cells)

    def seconds(self):
        once = sum(self._seconds(kind, server, cell) for kind, (servers, cells) in self.plan.items() for cell in cells
                   for server in servers)
        starting = sum(self._warm_up(kind, server) for kind, (servers, _) in self.plan.items() for server in servers)
        return self.rounds * (once + starting)

    def _seconds(self, kind, server, cell):
        if not is_wanted(server, cell):
            return 0
        reading = self.session.images.mebibytes / 1024 if cell.copies else 0
        return self.session.estimate(cell, kind, server) + (0.5 + reading if self.part == "cold" else 0)

    def _warm_up(self, kind, server):
        return 0.1 + (self.session.copying(kind, server) if self.part == "warm" else 0)

    def prerequisites(self):
        """What has to be made first: by name, functions that make it."""
        return {kind: functools.partial(self.session.images.path, kind) for kind in ["raw", *self.plan] if self.plan}

    def run(self):
        for number in range(self.rounds if self.plan else 0):
            for kind, (servers, cells) in self.plan.items():
                try:
                    files = [self.session.images.path(kind), self.session.images.path("raw")]
                except Failed as error:
                    self.session.failed(Row(self.part, kind, "*"), "all servers", error)
                else:
                    self._round(number, kind, files, servers, cells)
            self.session.milestone(f"{self.part}: round {number + 1} of {self.rounds} done")

    def _round(self, number, kind, files, servers, cells):
        """All servers of a kind run, and every cell visits them one after the other, each time from another one on."""
        session = self.session
        if self.part == "warm":
            session.cache.warm(files)
        with contextlib.ExitStack() as stack:
            running = {}
            for server in servers:
                session.say(f"{self.part}/{kind}: starting {server}")
                make = functools.partial(command, server, kind, files[0], session.images)
                try:
                    running[server] = stack.enter_context(Server(make))
                    if self.part == "warm":
                        CELLS["nbdcopy"].measure(running[server], session.images, session.options)
                except Failed as error:
                    running.pop(server, None)
                    session.failed(Row(self.part, kind, "*"), server, error)
                session.done += self._warm_up(kind, server)
            for index, cell in enumerate(cells):
                turn = (number + index) % max(len(running), 1)
                for server in [*running][turn:] + [*running][:turn]:
                    if is_wanted(server, cell):
                        self._measure(Row(self.part, kind, cell.name), server, number, cell, running[server], files)

    def _measure(self, row, server, number, cell, running, files):
        def action():
            if self.part == "cold":
                self.session.cache.drop(files)
            outcome = cell.measure(running, self.session.images, self.session.options)
            self.session.results.add(Row(self.part + " cpu", row.item, row.cell), server, number, outcome.cpu, "s/GiB")
            return outcome.value

        self.session.measured(row, server, number, cell.unit, action, self._seconds(row.item, server, cell))


class Starting:
    """From exec to the first byte, of every kind."""

    def __init__(self, session, rounds):
        self.session, self.rounds = session, rounds
        self.kinds = [kind for kind in KINDS if rounds and session.wants(Row("start", kind, "first byte"))]

    def prerequisites(self):
        return {kind: functools.partial(self.session.images.path, kind) for kind in self.kinds}

    def _servers(self, kind):
        return [server for server in servers() if cannot(server, kind) is None]

    def seconds(self):
        return self.rounds * STARTS * sum(0.15 * len(self._servers(kind)) for kind in self.kinds)

    def run(self):
        for number in range(self.rounds * STARTS):
            for kind in self.kinds:
                row = Row("start", kind, "first byte")
                for server in self._servers(kind):
                    self.session.measured(row, server, number, "ms", functools.partial(self._once, server, kind), 0.15)
        if self.kinds:
            self.session.milestone("start: done")

    def _once(self, server, kind):
        images = self.session.images
        return first_byte(functools.partial(command, server, kind, images.path(kind), images))[0]


class Memory:
    """Resident memory: after the start, and at most while 64 clients are busy."""

    def __init__(self, session, rounds):
        self.session, self.rounds = session, rounds
        self.plan = [(kind, server, cell) for kind in MEMORY_KINDS for cell in ("idle", *BUSY)
                     for server in servers()
                     if rounds and cannot(server, kind) is None and session.wants(Row("memory", kind, cell))]

    def prerequisites(self):
        return {kind: functools.partial(self.session.images.path, kind) for kind, _, _ in self.plan}

    def _seconds(self, cell):
        return 1.2 if cell == "idle" else self.session.options.seconds + 1.5

    def seconds(self):
        return self.rounds * sum(self._seconds(cell) for _, _, cell in self.plan)

    def run(self):
        for number in range(self.rounds):
            for kind, server, cell in self.plan:
                action = functools.partial(self._once, kind, server, cell)
                self.session.measured(Row("memory", kind, cell), server, number, "MiB", action, self._seconds(cell))
        if self.plan:
            self.session.milestone("memory: done")

    def _once(self, kind, server, cell):
        images = self.session.images
        make = functools.partial(command, server, kind, images.path(kind), images, connections=200)
        with Server(make, probe=lambda client: client.read(0, 4096)) as running:
            if cell == "idle":
                return settled_memory(running.pid)
            block, depth = BUSY[cell]
            fio(running, self.session.options.seconds, "randread", block, depth, jobs=64)
            return memory(running.pid, "VmHWM")
