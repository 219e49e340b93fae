# SPDX-License-Identifier: Apache-2.0
"""What was measured: samples by row and server, and what can be said of them."""

import dataclasses
import json
import statistics


@dataclasses.dataclass(frozen=True)
class Row:
    """What a measurement is of. `part`: warm, cold, start, memory, growth, ciphers. `item`: the kind of image, or what
    grows. `cell`: the work, or a point on a growth curve."""
    part: str
    item: str
    cell: str

    def __str__(self):
        return f"{self.part}/{self.item}/{self.cell}"


@dataclasses.dataclass(frozen=True)
class Spread:
    median: float
    low: float
    high: float

    @staticmethod
    def of(values):
        return Spread(statistics.median(values), min(values), max(values)) if values else None


class Results:
    """Samples of all rounds. What could not be measured is kept with the reason."""

    def __init__(self):
        self.samples = {}
        self.units = {}
        self.absent = {}
        self.failures = {}

    def add(self, row, server, round_number, value, unit):
        self.units[row] = unit
        self.samples.setdefault(row, {}).setdefault(server, {})[round_number] = value

    def fail(self, row, server, reason):
        self.failures[str(row), server, str(reason)] = None

    def lacks(self, item, server, reason):
        """A server cannot open a kind of image: not a failure."""
        self.absent[item, server] = reason

    def spread(self, row, server):
        return Spread.of(list(self.samples.get(row, {}).get(server, {}).values()))

    def median(self, row, server):
        spread = self.spread(row, server)
        return spread.median if spread else None

    def better_peer(self, row, less_is_better=False):
        """The peer with the better median, or None."""
        medians = {peer: self.median(row, peer) for peer in ("qemu-nbd", "nbdkit")}
        medians = {peer: value for peer, value in medians.items() if value is not None}
        return (min if less_is_better else max)(medians, key=medians.get) if medians else None

    def ratio(self, row, server, other, other_row=None):
        """The spread of server / other, of rounds that have both: rounds are short, so that what else the machine does
        weighs on both."""
        numerators = self.samples.get(row, {}).get(server, {})
        denominators = self.samples.get(other_row or row, {}).get(other, {})
        return Spread.of([numerators[number] / denominators[number]
                          for number in numerators if denominators.get(number)])

    def rows(self, part):
        return [row for row in self.samples if row.part == part]

    def speeds(self, server):
        """Rows of which a server has samples, and in which more is better."""
        return [row for row, servers in self.samples.items()
                if server in servers and self.units[row] in ("MiB/s", "k/s")]

    def to_json(self, about, targets):
        rows = [{"part": row.part, "item": row.item, "cell": row.cell, "unit": self.units[row],
                 "servers": {server: {"median": self.median(row, server), "samples": list(rounds.values())}
                             for server, rounds in servers.items()}}
                for row, servers in self.samples.items()]
        return json.dumps({
            "about": about,
            "targets": [dataclasses.asdict(target) for target in targets],
            "rows": rows,
            "failures": [dict(zip(("row", "server", "reason"), failure)) for failure in self.failures],
            "absent": [{"item": item, "server": server, "reason": reason}
                       for (item, server), reason in self.absent.items()],
        }, indent=1) + "\n"
