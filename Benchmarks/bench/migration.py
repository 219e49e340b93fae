# SPDX-License-Identifier: Apache-2.0
"""`nbdecrypt migrate` against `qemu-img convert`, and what the map of what clients have read costs `serve`."""

import functools
import os
import subprocess
import time

from . import contents, peers
from .clients import fio
from .process import Failed, last_line, run, words
from .results import Row
from .servers import NBDECRYPT, OWN, Server, command

CONVERT = "qemu-img convert"
# Of the disk, every other mebibyte is data.
HALF, SPARSE, DENSE = "half of the disk is data", "1 TiB, 1 GiB of it data", "1 GiB, all of it data"
VERIFIED, UNVERIFIED = "verified", "not verified"
SPEED, TIME, MEMORY = "migrate", "migrate time", "migrate memory"
COVERAGE, WITHOUT = "coverage", "nbdecrypt, no map"
BUSY = "64 reading, 4 KiB"
TARGET = ("encrypt.format=luks", "encrypt.key-secret=key", "encrypt.iter-time=10")


class Migration:
    def __init__(self, session, rounds):
        self.session, self.rounds = session, rounds
        mebibytes = session.images.mebibytes
        # 4 GiB with the usual size of 1 GiB.
        self.sources = {HALF: (4 * mebibytes, 2 * mebibytes), SPARSE: (1 << 20, mebibytes), DENSE: (mebibytes, mebibytes)}
        self.plan = [(row, server) for row in (Row(SPEED, HALF, VERIFIED), Row(SPEED, HALF, UNVERIFIED),
                                               Row(TIME, SPARSE, UNVERIFIED), Row(TIME, DENSE, UNVERIFIED))
                     for server in ((OWN, CONVERT) if row.part == SPEED else (OWN,)) if rounds and session.wants(row)]
        self.coverage = [(Row(COVERAGE, "qcow2-luks", BUSY), server) for server in (OWN, WITHOUT)
                         if rounds and session.wants(Row(COVERAGE, "qcow2-luks", BUSY))]

    def names(self):
        yield from dict.fromkeys(str(row) for row, _ in self.plan + self.coverage)

    def prerequisites(self):
        images = self.session.images
        made = {f"old, {item}": functools.partial(self._old, item) for item in dict.fromkeys(row.item for row, _ in self.plan)}
        return made | ({"qcow2-luks": functools.partial(images.path, "qcow2-luks")} if self.coverage else {})

    def seconds(self):
        return self.rounds * (12 * self.session.images.mebibytes / 1024 * len(self.plan)
                              + (self.session.options.seconds + 1) * len(self.coverage))

    def run(self):
        for number in range(self.rounds):
            # In another order each time.
            for row, server in self.plan if number % 2 == 0 else reversed(self.plan):
                self.session.measured(row, server, number, "MiB/s" if row.part == SPEED else "s",
                                      functools.partial(self._migrate, row, server, number))
            for row, server in self.coverage if number % 2 == 0 else reversed(self.coverage):
                self.session.measured(row, server, number, "k/s", functools.partial(self._read, server))
        if self.plan:
            self.session.milestone("migrate: done")

    # --- migrate

    def _old(self, item):
        """An AES image: of the mebibytes of its disk, as many as are wanted hold text, far from each other."""
        images, (size, data) = self.session.images, self.sources[item]

        def fill(path):
            images.create_aes(path, f"{size}M")
            step = size // data
            for start in range(0, data, 256):
                images.write_aes(path, [(place * step << 20, 1 << 20) for place in range(start, min(start + 256, data))])
        return images.made(f"old-{size}-{data}.qcow2", fill)

    def _migrate(self, row, server, number):
        """Mebibytes of the disk in a second, or seconds."""
        images = self.session.images
        old, new = self._old(row.item), images.directory / "new.qcow2"
        new.unlink(missing_ok=True)
        try:
            before = time.monotonic()
            if server == CONVERT:
                run("qemu-img", "convert", *images.secret, "--image-opts",
                    f"driver=qcow2,file.filename={old},encrypt.format=aes,encrypt.key-secret=key", "-O", "qcow2",
                    "-o", ",".join(TARGET), new)
            else:
                most = self._own(old, new, [] if row.cell == VERIFIED else ["--no-verify"])
                self.session.results.add(Row(MEMORY, row.item, row.cell), server, number, most, "MiB")
            seconds = time.monotonic() - before
            contents.check_image(images, "qcow2-luks", new)
        finally:
            new.unlink(missing_ok=True)
            os.sync()
        return seconds if row.part == TIME else self.sources[row.item][0] / seconds

    def _own(self, old, new, more):
        """Gives the most memory that it had, in MiB."""
        images = self.session.images
        arguments = words([NBDECRYPT, "migrate", old, new, "--passphrase-file", images.passphrase, "--new-passphrase-file",
                           images.passphrase, "--iter-time", "10", *more])
        with subprocess.Popen(peers.inside(arguments), stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
                              stderr=subprocess.PIPE, text=True) as process:
            errors = process.stderr.read()
            _, status, usage = os.wait4(process.pid, 0)
            process.returncode = os.waitstatus_to_exitcode(status)
        if process.returncode != 0:
            raise Failed(f"{arguments[0]} ended with {process.returncode}: {last_line(errors)}")
        return usage.ru_maxrss / 1024

    # --- coverage

    def _read(self, server):
        """Thousands of reads in a second, by 64 clients."""
        images = self.session.images
        report = images.directory / "coverage.json"
        report.unlink(missing_ok=True)

        def make(socket):
            line = command(OWN, "qcow2-luks", images.path("qcow2-luks"), images, socket, connections=200)
            return line + (["--coverage", report] if server == OWN else [])

        try:
            with Server(make) as running:
                rate, _ = fio(running, self.session.options.seconds, "randread", "4k", 4, jobs=64)
                running.check()
            if server == OWN and not report.exists():
                raise Failed("there is no map of what was read")
            return rate / 1000
        finally:
            report.unlink(missing_ok=True)
