# SPDX-License-Identifier: Apache-2.0
"""Where the processor time goes: perf(1) samples all processors while nbdcopy reads, and this sums up what they did."""

import argparse
import functools
import os
import pathlib
import re
import sys
import tempfile

from .images import KINDS, Images
from .process import Failed, run
from .servers import ROOT, Server, command

# By what a sample says: whose it is (server, client or idle), the file, the function.
ACTIVITIES = (
    ("cipher: libgcrypt or OpenSSL", "server", r"libgcrypt|libcrypto", r""),
    ("copy from the page cache to the buffer", "server", r"kernel", r"_copy_to_iter"),
    ("copy between socket and buffer: server", "server", r"kernel", r"_copy_from_iter"),
    ("copy between socket and buffer: client", "client", r"kernel", r"_copy_to_iter"),
    ("nbdecrypt itself, with its C library", "server", r"nbdecrypt|libc\.so|libswift", r""),
    ("the rest of the server: memory for the socket, page cache, waking", "server", r"", r""),
    ("the rest of the client", "client", r"", r""),
    ("idle", "idle", r"", r""),
    ("other programs", "", r"", r""),
)


def main():
    """Gives the exit status."""
    parser = argparse.ArgumentParser(prog="Benchmarks/profile", description=__doc__)
    parser.add_argument("kind", nargs="?", default="luks1-xts", choices=list(KINDS), help="of image (luks1-xts)")
    parser.add_argument("--size", type=int, default=1024, metavar="MIB", help="of the disk (1024)")
    parser.add_argument("--copies", type=int, default=6, metavar="N", help="of the disk (6)")
    parser.add_argument("--connections", type=int, metavar="N", help="of nbdcopy (its default)")
    options = parser.parse_args()
    images = Images(os.environ.get("BENCH_DIR") or str(ROOT / ".build/bench"), options.size)
    try:
        samples = list(profile(options, images))
    except (Failed, OSError) as error:
        print(f"Benchmarks/profile: {error}; perf is in the package linux-perf.", file=sys.stderr)
        return 2
    print(table(samples))
    return 0


def profile(options, images):
    """Gives (share in percent, process, file, function) for all that was seen."""
    connections = ["-C", str(options.connections)] if options.connections else []
    path = images.path(options.kind)
    make = functools.partial(command, "nbdecrypt", options.kind, path, images)
    with Server(make) as server, tempfile.TemporaryDirectory(prefix="nbdecrypt-bench-") as directory:
        copy = " ".join(["nbdcopy", *connections, f"'{server.uri}'", "null:"])
        run("sh", "-c", copy)
        # By the clock: many virtual machines count no cycles.
        run("perf", "record", "-q", "-a", "-e", "cpu-clock", "-F", "2000", "-o", f"{directory}/data", "--", "sh", "-c",
            ";".join([copy] * options.copies))
        text = run("perf", "report", "-i", f"{directory}/data", "--stdio", "-g", "none", "--no-children", "-t", "|",
                   "--sort", "comm,dso,sym", "-F", "overhead,comm,dso,sym")
        own = {path.read_text().strip() for path in pathlib.Path(f"/proc/{server.pid}/task").glob("*/comm")}
        for line in text.splitlines():
            fields = [field.strip() for field in line.split("|")]
            if len(fields) >= 4 and re.fullmatch(r"[\d.]+%", fields[0]):
                owner = ("server" if fields[1] in own else "client" if fields[1] == "nbdcopy" else
                         "idle" if fields[1] == "swapper" else "other")
                yield float(fields[0][:-1]), owner, fields[2], fields[3]


def table(samples):
    shares = dict.fromkeys((name for name, *_ in ACTIVITIES), 0.0)
    for share, owner, file, function in samples:
        name = next(name for name, *patterns in ACTIVITIES
                    if all(re.search(pattern, text) for pattern, text in zip(patterns, (owner, file, function))))
        shares[name] += share
    lines = ["| Of the time of all processors | % |", "|---|---:|"]
    return "\n".join(lines + [f"| {name} | {share:.1f} |" for name, share in shares.items()])
