# SPDX-License-Identifier: Apache-2.0
"""Ends `nbdecrypt migrate` at random moments, half of them by SIGINT and half by SIGKILL.

Usage: killed_migrations.py NBDECRYPT OLD PASSPHRASE_FILE DIRECTORY [ROUNDS [OPTION ...]]

After SIGINT nothing is left; after SIGKILL there may be files with other names, or images that others belong to, which are
removed here as the manual advises. When the new file has its own name, it and all that belong to it are complete.
"""

import os
import random
import signal
import subprocess
import sys
import time

program, old, secret, directory, *more = sys.argv[1:]
rounds = int(more[0]) if more else 50
new = "killed.qcow2"
command = [program, "migrate", old, os.path.join(directory, new), "--to", "qcow2", "--passphrase-file", secret]
command += ["--progress", "none"] + more[1:]
random.seed(1)


def files():
    """The files that are there, with their sizes."""
    names = [name for name in os.listdir(directory) if name.startswith("killed.")]
    return {name: os.stat(os.path.join(directory, name)).st_size for name in names}


def remove():
    for name in files():
        os.unlink(os.path.join(directory, name))


started = time.monotonic()
subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
duration = time.monotonic() - started
complete = files()
remove()

ended = {signal.SIGINT: 0, signal.SIGKILL: 0}
for number in range(rounds):
    sent = (signal.SIGINT, signal.SIGKILL)[number % 2]
    child = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
    time.sleep(random.random() * duration)
    child.send_signal(sent)
    _, errors = child.communicate(timeout=60)
    left = files()
    if new in left:
        # It had its name already when the signal came.
        if left != complete:
            sys.exit(f"there are {left}, not {complete}")
    elif child.returncode == 0:
        sys.exit("it has succeeded without a new file")
    else:
        ended[sent] += 1
        # Before the program takes signals, the system ends it.
        if sent == signal.SIGINT and child.returncode not in (128 + signal.SIGINT, -signal.SIGINT):
            sys.exit(f"status {child.returncode} at SIGINT: {errors.decode()}")
        if sent == signal.SIGINT and left:
            sys.exit(f"{left} is left behind at SIGINT")
    remove()
print(f"{ended[signal.SIGINT]} ended by SIGINT, {ended[signal.SIGKILL]} by SIGKILL")
if min(ended.values()) < rounds / 10:
    sys.exit("the moments were too late to tell anything")
