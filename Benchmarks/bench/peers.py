# SPDX-License-Identifier: Apache-2.0
"""The peers: those of this system or, with BENCH_PEERS=ROOT, those that are installed below another root directory.

They run by chroot(8), which becomes the program itself, so that it costs half a millisecond at the start and nothing after
it. What they share with the benchmark (images, sockets, /dev, /proc) is mounted there, in a mount namespace of the
benchmark's own, which ends with it."""

import ctypes
import os
import pathlib
import subprocess
import tempfile

ROOT = os.path.realpath(os.environ["BENCH_PEERS"]) if os.environ.get("BENCH_PEERS") else None
PROGRAMS = ("qemu-nbd", "qemu-img", "qemu-io", "nbdkit")
CLONE_NEWNS = 0x00020000


def has(program):
    """Whether a program is taken from the other root, and is there."""
    return ROOT is not None and program in PROGRAMS and any(
        os.access(f"{ROOT}{directory}/{program}", os.X_OK) for directory in ("/usr/bin", "/usr/sbin"))


def inside(command):
    """The command line that runs `command` where it belongs."""
    return ["/usr/sbin/chroot", ROOT, *command] if ROOT and command[0] in PROGRAMS else list(command)


def enter(images):
    """Gives this process a mount namespace in which the other root shows what the peers need. Does nothing without one.
    Gives sentences that say what is wrong."""
    if ROOT is None:
        return []
    missing = [f"BENCH_PEERS={ROOT} has no {program}: make it with Benchmarks/make-peers"
               for program in PROGRAMS if not has(program)]
    if missing:
        return missing
    if ctypes.CDLL(None, use_errno=True).unshare(CLONE_NEWNS) != 0:
        return [f"BENCH_PEERS needs root: no mount namespace can be made ({os.strerror(ctypes.get_errno())})"]
    places = [("--rbind", "/dev"), ("--rbind", "/proc"), ("--bind", tempfile.gettempdir()), ("--bind", str(images))]
    try:
        subprocess.run(["mount", "--make-rprivate", "/"], check=True)
        for way, place in places:
            pathlib.Path(ROOT + place).mkdir(parents=True, exist_ok=True)
            subprocess.run(["mount", way, place, ROOT + place], check=True)
    except (OSError, subprocess.CalledProcessError) as error:
        return [f"BENCH_PEERS={ROOT}: what the peers need cannot be mounted there ({error})"]
    return []
