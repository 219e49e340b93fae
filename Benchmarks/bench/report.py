# SPDX-License-Identifier: Apache-2.0
"""The report, in Markdown, and what is printed at the end."""

import re
import shlex

from . import migration, writes
from .ciphers import CIPHERS, ENCRYPTING, ENCRYPTING_LIMIT, LIBRARIES, LIMIT, SECTORS
from .clients import CELLS
from .growth import CURVES
from .images import KINDS
from .results import Row
from .servers import BUILDS, CEILING, EARLIER, LIMIT as NOWHERE, OWN, OWN_RAW, servers
from .targets import MET, MISSED, NO_PEER, NO_SLOWER, UNKNOWN


def number(value):
    """Three digits or so, and not more: the rest would be noise."""
    if value is None:
        return ""
    return f"{value:,.0f}" if value >= 100 else f"{value:.1f}" if value >= 10 else f"{value:.2f}"


def table(head, rows):
    """A Markdown table whose first column is text and whose others are figures."""
    lines = ["| " + " | ".join(head) + " |", "|---|" + "---:|" * (len(head) - 1)]
    return "\n".join(lines + ["| " + " | ".join(row) + " |" for row in rows])


def cells_of(part):
    """The cells of a part, by name."""
    return writes.CELLS if part == "write" else CELLS


class Report:
    def __init__(self, results, targets, about, notes):
        self.results, self.targets, self.about, self.notes = results, targets, about, notes

    # --- cells of tables

    def value(self, row, server):
        spread = self.results.spread(row, server)
        if spread is None:
            return ""
        if spread.low == spread.high:
            return number(spread.median)
        return f"{number(spread.median)} ({number(spread.low)}–{number(spread.high)})"

    def ratio(self, row, less_is_better=False, with_spread=False, peer=None):
        """To `peer`, or to the better one."""
        peer = peer or self.results.better_peer(row, less_is_better)
        spread = self.results.ratio(row, OWN, peer) if peer else None
        if spread is None:
            return ""
        text = f"{spread.median:.2f}"
        return f"{text} ({spread.low:.2f}–{spread.high:.2f})" if with_spread and spread.low != spread.high else text

    # --- tables

    def ratios(self, part, peer=None):
        kinds = [kind for kind in KINDS if any(row.item == kind for row in self.results.rows(part))]
        cells = [cell for cell in cells_of(part).values()
                 if any(row.cell == cell.name for row in self.results.rows(part))]
        return table([f"nbdecrypt / {peer or 'better peer'}", *(cell.label for cell in cells)],
                     [[KINDS[kind], *(self.ratio(Row(part, kind, cell.name), peer=peer) or "–" for cell in cells)]
                      for kind in kinds])

    def figures(self, part, cell, unit, columns, less_is_better=False):
        rows = [Row(part, kind, cell.name) for kind in KINDS if Row(part, kind, cell.name) in self.results.samples]
        return table([f"{cell.label}, {unit}", *columns, "nbdecrypt / better peer"],
                     [[KINDS[row.item], *(self.value(row, server) for server in columns),
                       self.ratio(row, less_is_better, with_spread=True)] for row in rows])

    def plain(self, part, title):
        rows = self.results.rows(part)
        return table([title, *servers()],
                     [[f"{KINDS.get(row.item, row.item)}, {row.cell}", *(self.value(row, server) for server in servers())]
                      for row in rows])

    def migration(self):
        """Each row with its unit: there are few, and they differ."""
        columns = [OWN, migration.CONVERT, migration.WITHOUT]
        rows = [row for part in (migration.SPEED, migration.TIME, migration.MEMORY, migration.COVERAGE)
                for row in self.results.rows(part)]
        if not rows:
            return ""
        return table(["work", "unit", *columns],
                     [[f"{row.part}: {KINDS.get(row.item, row.item)}, {row.cell}", self.results.units[row],
                       *(self.value(row, server) for server in columns)] for row in rows])

    def growth(self):
        rows = self.results.rows("growth")
        tables = []
        for item in CURVES:
            points = [row for row in rows if row.item == item]
            if not points:
                continue
            tables.append(table([f"{item}, {self.results.units[points[0]]}", *servers()],
                                [[f"{int(row.cell):,}", *(self.value(row, server) for server in servers())]
                                 for row in points]))
        return "\n\n".join(tables)

    def against(self):
        """Every row that an earlier build has, too, its speeds first; in the others less is better."""
        speeds = self.results.speeds(EARLIER)
        rows = [row for row, samples in self.results.samples.items() if EARLIER in samples]
        return table(["nbdecrypt / earlier build", "unit", "ratio"],
                     [[f"{row}", self.results.units[row], self.ratio(row, with_spread=True, peer=EARLIER)]
                      for row in speeds + [row for row in rows if row not in speeds]])

    def against_verdict(self):
        """Which speeds are lower than they may be, and how to look again."""
        slower = [row for row in self.results.speeds(EARLIER) if self.is_slower(row)]
        count = len(self.results.speeds(EARLIER))
        if not slower:
            return f"Of {count} speeds, none is below {NO_SLOWER} of the earlier build's."
        lines = [f"Of {count} speeds, {len(slower)} are below {NO_SLOWER} of the earlier build's:"]
        lines += [f"- {row}: {self.ratio(row, with_spread=True, peer=EARLIER)}" for row in slower]
        pattern = "|".join(re.escape(f"{row}") for row in slower).replace("\\ ", " ").replace("\\-", "-")
        again = shlex.join(["--against", BUILDS[EARLIER], "--rounds", "9", "--cold-rounds", "9",
                            "--growth-rounds", "9", "--only", f"^({pattern})$"])
        return "\n".join([*lines, "", f"To look at these for longer: `Benchmarks/run {again}`"])

    def is_slower(self, row):
        spread = self.results.ratio(row, OWN, EARLIER)
        return spread is not None and spread.median < NO_SLOWER

    def ciphers(self):
        rows = []
        for name, *_ in CIPHERS:
            row, limit = Row("ciphers", name, SECTORS), Row("ciphers", name, LIMIT)
            if row in self.results.samples:
                rows.append([name, self.value(row, OWN), *(self.value(limit, library) for library in LIBRARIES)])
        encrypting = [[name, self.value(Row("ciphers", name, ENCRYPTING), OWN),
                       *(self.value(Row("ciphers", name, ENCRYPTING_LIMIT), library) for library in LIBRARIES)]
                      for name, *_ in CIPHERS if Row("ciphers", name, ENCRYPTING) in self.results.samples]
        tables = []
        if rows:
            tables.append(table(["GB/s on one core", f"nbdecrypt, {SECTORS}",
                                 *(f"{library}, {LIMIT}" for library in LIBRARIES)], rows))
        if encrypting:
            tables.append(table(["GB/s on one core", f"nbdecrypt, {ENCRYPTING}",
                                 *(f"{library}, a call for each" for library in LIBRARIES)], encrypting))
        return "\n\n".join(tables)

    def target_table(self):
        shown = [target for target in self.targets if target.verdict != UNKNOWN]
        return table(["target", "of", "wanted", "measured", ""],
                     [[target.name, target.of, target.wanted, target.measured,
                       f"**{target.verdict}**" if target.verdict == MISSED else target.verdict] for target in shown])

    def verdict(self):
        counts = {verdict: sum(target.verdict == verdict for target in self.targets)
                  for verdict in (MET, MISSED, UNKNOWN, NO_PEER)}
        return (f"{counts[MET]} targets met, {counts[MISSED]} not met, {counts[UNKNOWN]} not measured; "
                f"{counts[NO_PEER]} have no peer that opens the image.")

    def failures(self):
        lines = [f"- FAILED: {row}, {server}: {reason}" for row, server, reason in self.results.failures]
        reasons = dict.fromkeys(self.results.absent.values())
        return "\n".join([*lines, *(f"- Not measured: {reason}." for reason in reasons)])

    # --- the whole

    def markdown(self, plot_name):
        parts = ["# Benchmark results",
                 "\n".join(f"- {key}: {value}" for key, value in self.about.items()),
                 "\n".join(f"- {note}" for note in self.notes),
                 "[How to read this](../../docs/benchmarks.md). A figure is the median of its rounds, in brackets the "
                 "lowest and the highest. A ratio is the median of the ratios of each round, to the peer with the "
                 "better median.",
                 f"![The same as a picture]({plot_name})" if plot_name else ""]
        if self.results.rows("warm"):
            parts += ["## Ratios, page cache warm", self.ratios("warm")]
        if EARLIER in BUILDS:
            parts += ["## Against the earlier build", self.against_verdict(), self.against()]
        parts += ["## Targets", self.verdict(), self.target_table()]
        for part, title in (("warm", "Speed, page cache warm"), ("cold", "Speed, page cache cold")):
            rows = self.results.rows(part)
            if not rows:
                continue
            parts.append(f"## {title}")
            if part == "cold":
                parts.append(self.ratios("cold"))
            for cell in CELLS.values():
                if any(row.cell == cell.name for row in rows):
                    columns = [*servers(), *([OWN_RAW] if cell.name.startswith("nbdcopy") else []), CEILING]
                    parts.append(self.figures(part, cell, cell.unit, columns))
        if self.results.rows("write"):
            parts += ["## Speed of writing", self.ratios("write"),
                      f"*{NOWHERE}* takes all that is written and keeps nothing: what the client can do."]
            for cell in writes.CELLS.values():
                if any(row.cell == cell.name for row in self.results.rows("write")):
                    parts.append(self.figures("write", cell, cell.unit, [*servers(), OWN_RAW, NOWHERE]))
        if self.results.rows("flushes"):
            parts += ["## Flushes of the file while clusters are given out", self.plain("flushes", "fsync(2), fdatasync(2)")]
        migrated = self.migration()
        if migrated:
            parts += ["## Copies into new images, and maps of what was read", migrated]
        if self.results.rows("warm cpu"):
            parts.append("## Processor time of the server, page cache warm")
            for cell in CELLS.values():
                if any(row.cell == cell.name for row in self.results.rows("warm cpu")):
                    parts.append(self.figures("warm cpu", cell, "s/GiB", [*servers(), CEILING], less_is_better=True))
        for part, title, head in (("start", "From exec to the first byte", "ms"), ("memory", "Resident memory", "MiB")):
            if self.results.rows(part):
                parts += [f"## {title}", self.plain(part, head)]
        if self.results.rows("growth"):
            parts += ["## Growth", self.growth()]
        if self.results.rows("ciphers"):
            parts += ["## The cipher layer alone", self.ciphers()]
        failures = self.failures()
        if failures:
            parts += ["## What could not be measured", failures]
        return "\n\n".join(part for part in parts if part) + "\n"

    def summary(self):
        """For the terminal."""
        parts = []
        for part, title in (("warm", "Page cache warm"), ("cold", "Page cache cold"), ("write", "Writing")):
            if self.results.rows(part):
                parts.append(f"{title}:\n\n{aligned(self.ratios(part))}")
        missed = [target for target in self.targets if target.verdict == MISSED]
        if missed:
            parts.append("\n".join(f"{MISSED}: {target.name}, {target.of}: wanted {target.wanted}, "
                                   f"measured {target.measured}" for target in missed))
        parts.append(self.verdict())
        if EARLIER in BUILDS:
            parts += [f"{aligned(self.ratios(part, EARLIER))}" for part in ("warm", "cold") if self.results.rows(part)]
            parts.append(self.against_verdict())
        if self.failures():
            parts.append(self.failures())
        return "\n\n".join(parts)


def aligned(markdown):
    """The same table with columns of equal width."""
    rows = [[cell.strip() for cell in line.strip("| ").split(" | ")] for line in markdown.splitlines()]
    del rows[1]
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    return "\n".join("  ".join(cell.ljust(width) if column == 0 else cell.rjust(width)
                               for column, (cell, width) in enumerate(zip(row, widths))) for row in rows)
