# SPDX-License-Identifier: Apache-2.0
"""One run of the benchmark: what all measurements share."""

import dataclasses
import re
import sys
import time

from .process import Failed
from .servers import BUILDS


@dataclasses.dataclass
class Session:
    options: object
    images: object
    cache: object
    quiet: object
    results: object
    done: float = 0
    total: float = 0
    started: float = dataclasses.field(default_factory=time.monotonic)

    def wants(self, row):
        return not self.options.only or re.search(self.options.only, str(row)) is not None

    def copying(self, kind, server):
        """Seconds that a copy of the disk takes, roughly."""
        if " raw" in server:
            kind = "raw"
        slow = 3.2 if kind == "qcow2-compressed" else 1.7 if "luks" in kind and server not in BUILDS else 0.4
        return 0.2 + slow * self.images.mebibytes / 1024

    def estimate(self, cell, kind, server):
        """Seconds that a measurement takes, the wait for a quiet moment included."""
        copies = 1 if cell.name == "convert" else self.options.copies
        seconds = self.copying(kind, server) * copies if cell.copies else self.options.seconds + 0.6
        return seconds + (0.4 if self.quiet.patience > 0 else 0)

    def measured(self, row, server, round_number, unit, action, seconds=0):
        """Does `action`, which gives a value, and keeps it; a failure is kept and said, and the run goes on. `seconds`:
        what it was expected to take."""
        self.say(f"{row} {server}")
        try:
            self.quiet.wait()
            value = action()
            self.results.add(row, server, round_number, value, unit)
            return value
        except (Failed, OSError) as error:
            self.failed(row, server, error)
            return None
        finally:
            self.done += seconds

    def failed(self, row, server, error):
        self.results.fail(row, server, error)
        self.end_line()
        print(f"FAILED {row} {server}: {error}", file=sys.stderr, flush=True)

    def say(self, text):
        """One changing line on a terminal; nothing elsewhere."""
        if sys.stderr.isatty():
            share = min(99, round(100 * self.done / self.total)) if self.total else 0
            print(f"\r\033[K{share:2} % {text}", end="", file=sys.stderr, flush=True)

    def end_line(self):
        if sys.stderr.isatty():
            print("\r\033[K", end="", file=sys.stderr)

    def milestone(self, text):
        self.end_line()
        minutes, seconds = divmod(round(time.monotonic() - self.started), 60)
        share = min(99, round(100 * self.done / self.total)) if self.total else 0
        print(f"{minutes:3}:{seconds:02} {share:3} % {text}", file=sys.stderr, flush=True)
