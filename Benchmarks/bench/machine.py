# SPDX-License-Identifier: Apache-2.0
"""What the figures were measured on, and with."""

import datetime
import os
import platform
import re
import shutil
import subprocess

from . import peers
from .servers import BUILDS, EARLIER, NBDECRYPT, NBDKIT, QEMU_NBD, ROOT, has_qcow2_filter

TOOLS = {"qemu-nbd": "qemu-utils", "qemu-img": "qemu-utils", "qemu-io": "qemu-utils", "nbdkit": "nbdkit",
         "nbdcopy": "libnbd-bin", "fio": "fio", "cryptsetup": "cryptsetup-bin", "strace": "strace"}


def missing_tools():
    """Sentences that say what is not installed."""
    path = os.environ["PATH"] + ":/usr/sbin:/sbin"
    missing = [f"{tool} is missing: install the package {package}"
               for tool, package in TOOLS.items() if not (peers.has(tool) or shutil.which(tool, path=path))]
    if not shutil.which(NBDECRYPT):
        missing.append(f"{NBDECRYPT} is missing: run make release, or set NBDECRYPT")
    if not shutil.which(BUILDS.get(EARLIER, NBDECRYPT)):
        missing.append(f"--against {BUILDS[EARLIER]}: there is no such program")
    return missing


def first_line(*command):
    try:
        result = subprocess.run(peers.inside(command), stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, check=False,
                                env={**os.environ, "PATH": os.environ["PATH"] + ":/usr/sbin:/sbin"})
    except OSError:
        return ""
    return (result.stdout.splitlines() or [""])[0].strip()


def read(path, pattern):
    try:
        with open(path, encoding="utf-8") as file:
            found = re.search(pattern, file.read(), re.MULTILINE)
    except OSError:
        return ""
    return found.group(1).strip() if found else ""


def version(tool):
    text = first_line(tool, "--version")
    return (re.search(r"\d+(\.\d+)+", text) or [text])[0]


def describe(options, cache, images):
    """A dictionary for the report and the JSON; all values are texts."""
    flags = read("/proc/cpuinfo", r"^flags\s*:(.*)$").split()
    commit = first_line("git", "-C", str(ROOT), "rev-parse", "--short", "HEAD")
    dirty = first_line("git", "-C", str(ROOT), "status", "--porcelain", "Sources", "Package.swift")
    versions = {tool: version(tool) for tool in ("qemu-nbd", "nbdkit", "nbdcopy", "fio", "cryptsetup")}
    versions["nbdecrypt"] = first_line(NBDECRYPT, "--version") + f" ({commit}{' and changes' if dirty else ''})"
    if EARLIER in BUILDS:
        versions[EARLIER] = first_line(BUILDS[EARLIER], "--version") + f" ({BUILDS[EARLIER]})"
    return {
        "date": datetime.datetime.now(datetime.timezone.utc).strftime("%Y-%m-%d %H:%M UTC"),
        "processor": f"{os.cpu_count()} × {read('/proc/cpuinfo', r'^model name.*:(.*)$') or platform.machine()}"
                     f" ({', '.join(flag for flag in ('aes', 'vaes', 'avx2', 'avx512f') if flag in flags) or '?'})"
                     f"{', virtual machine' if 'hypervisor' in flags else ''}",
        "memory": f"{int(read('/proc/meminfo', r'^MemTotal:(.*)kB') or 0) >> 20} GiB",
        "system": f"{read('/etc/os-release', 'PRETTY_NAME=.(.*).$')}, Linux {platform.release()}",
        "peers": f"those in {peers.ROOT}, {read(f'{peers.ROOT}/etc/os-release', 'PRETTY_NAME=.(.*).$')}"
                 if peers.ROOT else "those of this system",
        "versions": ", ".join(f"{name} {text}" for name, text in versions.items()),
        "servers": f"qemu-nbd {' '.join(QEMU_NBD)} -e 16; nbdkit {' '.join(NBDKIT)}"
                   f"{'' if has_qcow2_filter() else ' (without a qcow2dec filter)'}; Unix socket",
        "disk": f"{images.mebibytes:,} MiB, images in {images.directory}, copies by qemu-img to "
                f"{images.fast_directory() if images.fast_directory().name == 'shm' else 'the same directory'}",
        "rounds": f"{options.rounds} warm, {options.cold_rounds} cold, {options.growth_rounds} of growth; "
                  f"fio {options.seconds} s, nbdcopy {options.copies} copies",
        "cold": f"page cache emptied by {cache.how}",
    }
