# SPDX-License-Identifier: Apache-2.0
"""The command line."""

import argparse
import os

from .servers import BUILDS, EARLIER, ROOT

DESCRIPTION = """Measures nbdecrypt, qemu-nbd and nbdkit side by side: speed in every kind of image, processor time,
starting, memory, and how they change with sizes and numbers. Prints ratios and writes JSON, Markdown and SVG."""
EPILOG = """Environment: BENCH_DIR (where images are made and kept; default .build/bench), NBDECRYPT (the program),
QEMU_NBD_FLAGS and NBDKIT_FLAGS (instead of those in Benchmarks/bench/servers.py), BENCH_PEERS (a root directory whose
qemu-nbd, qemu-img, qemu-io and nbdkit are measured, made by Benchmarks/make-peers)."""


def parse(arguments=None):
    parser = argparse.ArgumentParser(prog="Benchmarks/run", description=DESCRIPTION, epilog=EPILOG)
    parser.add_argument("--quick", action="store_true",
                        help="64 MiB, one round, no waiting: does everything work? Its figures mean little")
    parser.add_argument("--size", type=int, metavar="MIB", help="of the disk (1024; quick: 64)")
    parser.add_argument("--rounds", type=int, metavar="N", help="of warm reads, writes and ciphers (3; quick: 1)")
    parser.add_argument("--cold-rounds", type=int, metavar="N", help="of cold reads (2; quick: 1)")
    parser.add_argument("--growth-rounds", type=int, metavar="N",
                        help="of growth, memory and starting (2; quick: 1)")
    parser.add_argument("--seconds", type=int, metavar="S", help="of each run of fio (2; quick: 1)")
    parser.add_argument("--copies", type=int, metavar="N", help="by nbdcopy in each measurement (2; quick: 1)")
    parser.add_argument("--patience", type=float, metavar="S",
                        help="how long to wait for a quiet moment before each measurement (3; quick: 0)")
    parser.add_argument("--only", metavar="PATTERN",
                        help="measure what this regular expression is found in; --list shows the names")
    parser.add_argument("--against", metavar="PROGRAM",
                        help="measure this other build of nbdecrypt, too, beside the one that is measured anyway, and say "
                        "which speeds are below 0.97 of its")
    parser.add_argument("--list", action="store_true", help="print the names of what would be measured, and the time")
    parser.add_argument("--output", metavar="DIR", help="where to write the report as .json, .md and .svg (default: "
                        "Benchmarks/results for everything, BENCH_DIR/results for --quick and --only)")
    parser.add_argument("--name", metavar="NAME", default="latest", help="of these files, without their ends (latest)")
    options = parser.parse_args(arguments)
    for name, usual, quick in (("size", 1024, 64), ("rounds", 3, 1), ("cold_rounds", 2, 1), ("growth_rounds", 2, 1),
                               ("seconds", 2, 1), ("copies", 2, 1), ("patience", 3, 0)):
        if getattr(options, name) is None:
            setattr(options, name, quick if options.quick else usual)
        if getattr(options, name) < (0 if name in ("patience", "cold_rounds", "growth_rounds") else 1):
            parser.error(f"--{name.replace('_', '-')} is too small")
    if options.size < 16:
        parser.error("--size is at least 16")
    if options.against:
        BUILDS[EARLIER] = os.path.abspath(options.against)
    options.directory = os.environ.get("BENCH_DIR") or str(ROOT / ".build/bench")
    partial = options.quick or options.only
    options.output = options.output or (f"{options.directory}/results" if partial else str(ROOT / "Benchmarks/results"))
    return options
