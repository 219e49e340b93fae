#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Swaps a symbolic link between a file inside a directory and one outside while a program starts again and again.

    shape_swap.py LINK TARGET OTHER-TARGET FILE-INSIDE FILE-OUTSIDE COUNT PROGRAM ARGUMENTS...

Each run gets `--run` with a command that copies the disk to standard output. Prints how many runs read the file inside,
how many the one outside, and how many were refused with status 65.
"""
import os
import subprocess
import sys
import threading


def swap(link, targets, end):
    other = link + ".new"
    number = 0
    while not end.is_set():
        os.symlink(targets[number % 2], other)
        os.rename(other, link)
        number += 1


def main():
    link, target, other, inside, outside, count = sys.argv[1:7]
    with open(inside, "rb") as file:
        good = file.read()
    with open(outside, "rb") as file:
        secret = file.read(16)
    end = threading.Event()
    thread = threading.Thread(target=swap, args=(link, (target, other), end))
    thread.start()
    read = leaked = refused = 0
    try:
        for _ in range(int(count)):
            result = subprocess.run(
                sys.argv[7:] + ["--run", "nbdcopy \"$uri\" -"], capture_output=True, stdin=subprocess.DEVNULL,
                timeout=30, check=False)
            leaked += secret in result.stdout or secret in result.stderr
            read += result.returncode == 0 and result.stdout == good
            refused += result.returncode == 65 and not result.stdout
    finally:
        end.set()
        thread.join()
    print(read, leaked, refused)


main()
