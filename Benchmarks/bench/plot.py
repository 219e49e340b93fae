# SPDX-License-Identifier: Apache-2.0
"""The results as one picture: bars for the kinds of images, lines for what grows. Plain SVG."""

import math
from xml.sax.saxutils import escape

from .growth import CURVES
from .images import KINDS
from .results import Row
from .servers import CEILING, EARLIER, servers

# Told apart by people who do not see all colours too.
COLOURS = {"nbdecrypt": "#0072b2", EARLIER: "#56b4e9", "qemu-nbd": "#e69f00", "nbdkit": "#009e73"}
BARS = (("warm", "nbdcopy", "Sequential read: nbdcopy, MiB/s"), ("warm", "nbdcopy-C1", "nbdcopy -C 1, MiB/s"),
        ("warm", "fio-4k-16", "4 KiB random reads, depth 16, thousands a second"),
        ("warm", "fio-64k-8", "64 KiB random reads, depth 8, thousands a second"),
        ("warm cpu", "nbdcopy", "Processor seconds of the server for a GiB, nbdcopy (less is better)"),
        ("cold", "nbdcopy", "Page cache cold: nbdcopy, MiB/s"))
WIDTH, MARGIN, LABEL, BAR = 980, 20, 225, 9
CURVE_WIDTH, CURVE_HEIGHT = 300, 190


def short(value):
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def round_up(value):
    """The next of 1, 2, 5, 10, …"""
    power = 10 ** math.floor(math.log10(value))
    return next(step * power for step in (1, 2, 5, 10) if step * power >= value * 0.999)


class Plot:
    def __init__(self, results, about):
        self.results, self.about = results, about
        self.parts = []
        self.y = MARGIN

    def svg(self):
        self._legend()
        for part, cell, title in BARS:
            self._bars(part, cell, title)
        self._curves()
        height = self.y + MARGIN
        return (f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" width="{WIDTH}" '
                f'height="{height}" font-family="sans-serif" font-size="11" fill="#222">\n'
                f'<rect width="{WIDTH}" height="{height}" fill="#fff"/>\n' + "\n".join(self.parts) + "\n</svg>\n")

    def _text(self, x, y, text, anchor="start", more=""):
        self.parts.append(f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}"{more}>{escape(text)}</text>')

    def _rect(self, x, y, width, height, colour):
        self.parts.append(f'<rect x="{x:.1f}" y="{y:.1f}" width="{width:.1f}" height="{height:.1f}" fill="{colour}"/>')

    def _line(self, points, colour, width=1.0):
        path = " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
        self.parts.append(f'<polyline points="{path}" fill="none" stroke="{colour}" stroke-width="{width}"/>')

    def _legend(self):
        x = MARGIN
        for server in servers():
            self._rect(x, self.y, 12, 12, COLOURS[server])
            self._text(x + 17, self.y + 10, server)
            x += 100
        self._rect(x, self.y - 1, 2.5, 14, "#222")
        self._text(x + 9, self.y + 10, "nbdkit serving the plaintext: the ceiling of the transport")
        self._text(MARGIN, self.y + 30, f"{self.about['date']}, {self.about['processor']}, {self.about['system']}")
        self.y += 50

    def _bars(self, part, cell, title):
        rows = [Row(part, kind, cell) for kind in KINDS if Row(part, kind, cell) in self.results.samples]
        values = {row: {server: self.results.median(row, server) for server in (*servers(), CEILING)} for row in rows}
        most = max((value for of_row in values.values() for value in of_row.values() if value), default=0)
        if not most:
            return
        scale = (WIDTH - LABEL - 2 * MARGIN - 60) / most
        self._text(MARGIN, self.y + 12, title, more=' font-weight="bold" font-size="13"')
        self.y += 22
        for row in rows:
            present = [server for server in servers() if values[row][server] is not None]
            height = BAR * len(present)
            self._text(LABEL, self.y + height / 2 + 4, KINDS[row.item], "end")
            for place, server in enumerate(present):
                length = values[row][server] * scale
                self._rect(LABEL + 8, self.y + place * BAR, max(length, 0.5), BAR - 1, COLOURS[server])
                self._text(LABEL + 12 + length, self.y + place * BAR + 7.5, short(values[row][server]),
                           more=' font-size="9"')
            if values[row][CEILING]:
                self._rect(LABEL + 8 + values[row][CEILING] * scale - 1, self.y - 2, 2.5, height + 3, "#222")
            self.y += height + 7
        self.y += 12

    def _curves(self):
        place = 0
        for item in CURVES:
            rows = [row for row in self.results.rows("growth") if row.item == item]
            if rows:
                column = place % 3
                self._curve(MARGIN + column * (CURVE_WIDTH + 15), self.y, item, rows)
                place += 1
                if column == 2:
                    self.y += CURVE_HEIGHT + 25
        if place % 3:
            self.y += CURVE_HEIGHT + 25

    def _curve(self, left, top, item, rows):
        what, _, measured = item.partition(": ")
        title = f"{measured}, {self.results.units[rows[0]]}"
        self._text(left, top + 12, title, more=' font-weight="bold"')
        lines = {server: [(int(row.cell), self.results.median(row, server)) for row in rows
                          if self.results.median(row, server) is not None] for server in servers()}
        values = [value for points in lines.values() for _, value in points]
        grown = sorted({int(row.cell) for row in rows})
        if not values or max(values) <= 0:
            return
        most = round_up(max(values))
        x0, x1, y0, y1 = left + 40, left + CURVE_WIDTH - 12, top + CURVE_HEIGHT - 35, top + 24
        span = math.log2(grown[-1] / grown[0]) or 1

        def x(value):
            return x0 + (x1 - x0) * math.log2(value / grown[0]) / span

        def y(value):
            return y0 - (y0 - y1) * max(value, 0) / most

        for step in (0, 0.5, 1):
            self._line([(x0, y(step * most)), (x1, y(step * most))], "#ccc")
            self._text(x0 - 4, y(step * most) + 4, short(step * most), "end", ' font-size="9"')
        for value in grown if len(grown) <= 7 else grown[::2]:
            self._text(x(value), y0 + 13, f"{value:,}", "middle", ' font-size="9"')
        self._text((x0 + x1) / 2, y0 + 27, what, "middle")
        for server, points in lines.items():
            self._line([(x(value), y(result)) for value, result in points], COLOURS[server], 2)
            for value, result in points:
                self.parts.append(f'<circle cx="{x(value):.1f}" cy="{y(result):.1f}" r="2.5" '
                                  f'fill="{COLOURS[server]}"/>')
