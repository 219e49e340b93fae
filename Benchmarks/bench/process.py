# SPDX-License-Identifier: Apache-2.0
"""Programs: running them, and what the kernel says of them in /proc."""

import ctypes
import os
import signal
import subprocess
import time

from . import peers

TICKS = os.sysconf("SC_CLK_TCK")


class Failed(Exception):
    """A program, or a server, did not do what was wanted of it. Its text is one sentence."""


def words(command):
    return [str(word) for word in command]


def run(*command, timeout=600):
    """Runs a program that must succeed, and gives what it printed. Raises Failed with its last words."""
    try:
        result = subprocess.run(peers.inside(words(command)), stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                                stderr=subprocess.PIPE, text=True, timeout=timeout,
                                env={**os.environ, "LC_ALL": "C", "PATH": os.environ["PATH"] + ":/usr/sbin:/sbin"})
    except subprocess.TimeoutExpired:
        raise Failed(f"{command[0]} was stopped after {timeout} seconds") from None
    except OSError as error:
        raise Failed(f"{command[0]} cannot be run: {error.strerror}") from None
    if result.returncode != 0:
        raise Failed(f"{command[0]} ended with {result.returncode}: {last_line(result.stderr or result.stdout)}")
    return result.stdout


def last_line(text):
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return lines[-1] if lines else "it said nothing"


def die_with_parent():
    """Between fork and exec: a server must not outlive a benchmark that was killed (PR_SET_PDEATHSIG)."""
    ctypes.CDLL(None).prctl(1, signal.SIGTERM)


def cpu_seconds(pid):
    """Seconds of processor time, user and system, of all threads of a process; in steps of 10 ms."""
    with open(f"/proc/{pid}/stat", encoding="ascii", errors="replace") as file:
        fields = file.read().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / TICKS


def memory(pid, field):
    """VmRSS (now) or VmHWM (the most until now) in MiB."""
    with open(f"/proc/{pid}/status", encoding="ascii", errors="replace") as file:
        for line in file:
            if line.startswith(field + ":"):
                return int(line.split()[1]) / 1024
    raise Failed(f"/proc/{pid}/status has no {field}")


def settled_memory(pid):
    """VmRSS in MiB, when it has stopped changing (or after 3 seconds)."""
    value = memory(pid, "VmRSS")
    for _ in range(15):
        time.sleep(0.2)
        previous, value = value, memory(pid, "VmRSS")
        if abs(value - previous) < 0.05:
            break
    return value


class Quiet:
    """Waits for moments in which other programs are not busy, and counts those that did not come."""

    def __init__(self, patience):
        self.patience = patience
        self.busy = self.waits = 0

    def wait(self):
        """Returns when the processors are 85 % free (programs of low priority do not count), or after `patience`
        seconds."""
        if self.patience <= 0:
            return
        self.waits += 1
        end = time.monotonic() + self.patience
        free, total = self._times()
        while time.monotonic() < end:
            time.sleep(0.25)
            later_free, later_total = self._times()
            if later_free - free > 0.85 * (later_total - total):
                return
            free, total = later_free, later_total
        self.busy += 1

    @staticmethod
    def _times():
        with open("/proc/stat", encoding="ascii") as file:
            user, nice, system, idle, iowait, *rest = (int(field) for field in file.readline().split()[1:9])
        return nice + idle + iowait, user + nice + system + idle + iowait + sum(rest)
