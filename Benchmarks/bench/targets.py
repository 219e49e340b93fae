# SPDX-License-Identifier: Apache-2.0
"""What is wanted of nbdecrypt, with the page cache warm, and whether it was measured to be so."""

import dataclasses

from . import migration, writes
from .ciphers import CIPHERS, ENCRYPTING, ENCRYPTING_LIMIT, LIBRARIES, LIMIT, SECTORS
from .clients import CELLS
from .growth import FIRST_READ
from .images import ENCRYPTED, KINDS
from .measure import BUSY, MEMORY_KINDS
from .results import Row
from .servers import CEILING, LIMIT as NOWHERE, OWN, OWN_RAW

MET, MISSED, UNKNOWN, NO_PEER = "met", "NOT MET", "not measured", "no peer"
XTS = ("qcow2-luks", "luks1-xts", "luks2-512", "luks2-4096")
CBC = ("qcow2-aes", "luks1-essiv")
# Of an earlier build's speed: what a change may cost.
NO_SLOWER = 0.97
COPIES = ("nbdcopy", "nbdcopy-C1")


@dataclasses.dataclass(frozen=True)
class Target:
    """`wanted` and `measured` are texts with their unit; `at_least` tells which way is good."""
    name: str
    of: str
    wanted: str
    measured: str
    verdict: str


def wanted_ratios():
    """Ratios to the better peer: (name, kind, cell, ratio)."""
    for kind in XTS:
        yield "sequential, aes-xts / better peer", kind, "nbdcopy", 3
        yield "sequential, aes-xts / better peer", kind, "nbdcopy-C1", 2.5
    for kind in CBC:
        for cell in COPIES:
            yield "sequential, CBC / better peer", kind, cell, 2
    for cell in ("fio-4k-16", "fio-4k-64"):
        for kind in ("qcow2-aes", "qcow2-luks"):
            yield "4 KiB random, qcow2 / better peer", kind, cell, 4
        yield "4 KiB random, raw LUKS1 / better peer", "luks1-xts", cell, 1.5
        yield "4 KiB random, raw LUKS1 / better peer", "luks1-essiv", cell, 2
    for kind in ENCRYPTED:
        yield "4 KiB random, depth 1 / better peer", kind, "fio-4k-1", 1.3
        yield "64 KiB random, depth 8 / better peer", kind, "fio-64k-8", 1.6 if kind == "luks1-essiv" else 2


def wanted_writes():
    """The same of writes."""
    for kind in writes.KINDS:
        xts = kind in XTS
        for cell in ("over", "over-C1", "fresh", "fresh-C1"):
            ratio = (2.5 if cell.startswith("over") else 2) if xts else 1.7
            yield f"sequential writes, {'aes-xts' if xts else 'CBC'} / better peer", kind, cell, ratio
        ratio = 2 if kind == "luks1-xts" else 3
        if kind != "luks1-essiv":
            yield "4 KiB random writes / better peer", kind, "4k-16", ratio
            yield "4 KiB random writes / better peer", kind, "4k-64", ratio
        if kind in writes.CELLS["512-16"].kinds:
            yield "512-byte random writes / better peer", kind, "512-16", 1 if kind == "luks1-xts" else 2
        yield "4 KiB random writes with FUA / better peer", kind, "fua-4k-16", 1.2


class Targets:
    def __init__(self, results):
        self.results = results
        self.found = []

    def judge(self):
        """All targets, in the order of the tables."""
        named = set()
        for name, kind, cell, ratio in wanted_ratios():
            named.add((kind, cell))
            self._ratio(name, kind, cell, ratio)
        self._shares()
        for kind in KINDS:
            for cell in CELLS:
                if (kind, cell) not in named:
                    self._ratio("any other cell / better peer", kind, cell, 1)
        self._writes()
        self._migration()
        self._ciphers()
        for kind in XTS + ("luks1-essiv",):
            for cell in COPIES:
                self._cpu(kind, cell)
        self._value("exec to first byte", Row("start", "qcow2-aes", "first byte"), 50, "ms")
        self._value("exec to first byte, passphrase checked", Row("growth", FIRST_READ, "1"), 50, "ms")
        for kind in MEMORY_KINDS:
            self._value("resident memory", Row("memory", kind, "idle"), 20, "MiB")
            for cell in BUSY:
                self._value("resident memory", Row("memory", kind, cell), 96, "MiB")
        self._opening()
        return self.found

    def _add(self, name, of, wanted, measured, verdict):
        self.found.append(Target(name, of, wanted, measured, verdict))

    def _at_least(self, name, of, wanted, spread, limit=None):
        """`limit`: the ratio that the client could reach; it is said where the target is not met."""
        if spread is None:
            self._add(name, of, f"≥ {wanted:g} ×", "", UNKNOWN)
        elif spread.median >= wanted:
            self._add(name, of, f"≥ {wanted:g} ×", f"{spread.median:.2f} ×", MET)
        else:
            client = f", the client's limit {limit.median:.2f} ×" if limit else ""
            self._add(name, of, f"≥ {wanted:g} ×", f"{spread.median:.2f} ×{client}", MISSED)

    def _ratio(self, name, kind, cell, wanted):
        row = Row("warm", kind, cell)
        of = f"{KINDS[kind]}, {CELLS[cell].label}"
        peer = self.results.better_peer(row)
        if peer is None and all((kind, other) in self.results.absent for other in ("qemu-nbd", "nbdkit")):
            # The reader of the list wants to know once that nobody else opens LUKS2, not in every other cell.
            if not name.startswith("any other"):
                self._add(name, of, f"≥ {wanted:g} ×", "", NO_PEER)
            return
        self._at_least(name, of, wanted, self.results.ratio(row, OWN, peer) if peer else None)

    def _writes(self):
        for name, kind, cell, wanted in wanted_writes():
            row = Row("write", kind, cell)
            peer = self.results.better_peer(row)
            spread = self.results.ratio(row, OWN, peer) if peer else None
            self._at_least(name, f"{KINDS[kind]}, {writes.CELLS[cell].label}", wanted, spread,
                           limit=self.results.ratio(row, NOWHERE, peer) if peer else None)
        for row in self.results.rows("flushes"):
            self._at_most("flushes of the file / qemu-nbd's", f"{row.item}, {row.cell}", 1,
                          self.results.ratio(row, OWN, "qemu-nbd"), "1 ×", "×")
        for kind in writes.MEMORY_KINDS:
            for cell in writes.BUSY:
                self._value("resident memory", Row("memory", kind, cell), 96, "MiB")

    def _migration(self):
        for cell, wanted in ((migration.VERIFIED, 1), (migration.UNVERIFIED, 2.5)):
            self._at_least(f"migrate, {cell} / {migration.CONVERT}", f"qcow2 AES to qcow2 LUKS, {migration.HALF}", wanted,
                           self.results.ratio(Row(migration.SPEED, migration.HALF, cell), OWN, migration.CONVERT))
        sparse, dense = (Row(migration.TIME, item, migration.UNVERIFIED) for item in (migration.SPARSE, migration.DENSE))
        self._at_most("migrate, time for a sparse disk / for its data alone", f"qcow2 AES to qcow2 LUKS, {migration.SPARSE}",
                      1.5, self.results.ratio(sparse, OWN, OWN, dense), "1.5 ×", "×")
        for row in self.results.rows(migration.MEMORY):
            self._at_most("most memory of migrate", f"{row.item}, {row.cell}", 128, self.results.spread(row, OWN), "128 MiB",
                          "MiB")
        for row in self.results.rows(migration.COVERAGE):
            self._at_least("serve with a map of what was read / without", f"{KINDS[row.item]}, {row.cell}", 0.98,
                           self.results.ratio(row, OWN, migration.WITHOUT))

    def _shares(self):
        for other, wanted, name in ((OWN_RAW, 0.85, "sequential, encrypted / own speed on plaintext"),
                                    (CEILING, 0.7, "sequential, encrypted / nbdkit's speed on plaintext")):
            for kind in XTS + CBC:
                for cell in COPIES:
                    self._at_least(name, f"{KINDS[kind]}, {CELLS[cell].label}", wanted,
                                   self.results.ratio(Row("warm", kind, cell), OWN, other))

    def _ciphers(self):
        for name, *_ in CIPHERS:
            row, limit = Row("ciphers", name, SECTORS), Row("ciphers", name, LIMIT)
            library = max(LIBRARIES, key=lambda library: self.results.median(limit, library) or 0)
            self._at_least("cipher layer / one call of the better library", name, 0.6 if "xts" in name else 0.85,
                           self.results.ratio(row, OWN, library, limit))
            if "cbc" in name:
                row, limit = Row("ciphers", name, ENCRYPTING), Row("ciphers", name, ENCRYPTING_LIMIT)
                library = max(LIBRARIES, key=lambda library: self.results.median(limit, library) or 0)
                self._at_least("cipher layer, encrypting / a call of the better library for each sector", name, 3,
                               self.results.ratio(row, OWN, library, limit))

    def _cpu(self, kind, cell):
        row = Row("warm cpu", kind, cell)
        peer = self.results.better_peer(row, less_is_better=True)
        if peer is None and kind.startswith("luks2"):
            return
        spread = self.results.ratio(row, OWN, peer) if peer else None
        self._at_most("processor seconds for a GiB, LUKS / better peer", f"{KINDS[kind]}, {CELLS[cell].label}",
                      1 / 3, spread, "1/3 ×", "×")

    def _at_most(self, name, of, wanted, spread, text, unit):
        if spread is None:
            self._add(name, of, f"≤ {text}", "", UNKNOWN)
        else:
            self._add(name, of, f"≤ {text}", f"{spread.median:.{2 if unit == '×' else 1}f} {unit}",
                      MET if spread.median <= wanted else MISSED)

    def _value(self, name, row, wanted, unit):
        of = KINDS.get(row.item, "qcow2 AES, 1 GiB")
        of = of if row.part != "memory" else f"{of}, {row.cell}"
        self._at_most(name, of, wanted, self.results.spread(row, OWN), f"{wanted} {unit}", unit)

    def _opening(self):
        spread = self.results.ratio(Row("growth", FIRST_READ, "16384"), OWN, OWN, Row("growth", FIRST_READ, "1"))
        self._at_most("opening 16 TiB against 1 GiB", "qcow2 AES", 2, spread, "2 ×", "×")
