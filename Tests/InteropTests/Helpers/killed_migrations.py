# SPDX-License-Identifier: Apache-2.0
"""Ends `nbdecrypt migrate` at random moments, half of them by SIGINT and half by SIGKILL.

Usage: killed_migrations.py NBDECRYPT OLD PASSPHRASE_FILE DIRECTORY

After SIGINT nothing is left; after SIGKILL there may be a file with another name, which is removed here as the program
advises. A new file under its own name is complete.
"""

import os
import random
import signal
import subprocess
import sys
import time

program, old, secret, directory = sys.argv[1:]
new = os.path.join(directory, "killed.qcow2")
command = [program, "migrate", old, new, "--to", "qcow2", "--passphrase-file", secret, "--progress", "none"]
random.seed(1)

started = time.monotonic()
subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
duration = time.monotonic() - started
complete = os.stat(new).st_size
os.unlink(new)

ended = {signal.SIGINT: 0, signal.SIGKILL: 0}
for number in range(50):
    sent = (signal.SIGINT, signal.SIGKILL)[number % 2]
    child = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
    time.sleep(random.random() * duration)
    child.send_signal(sent)
    _, errors = child.communicate(timeout=60)
    if os.path.exists(new):
        # It had its name already when the signal came.
        if os.stat(new).st_size != complete:
            sys.exit(f"{new} has {os.stat(new).st_size} bytes, not {complete}")
        os.unlink(new)
    elif child.returncode == 0:
        sys.exit("it has succeeded without a new file")
    else:
        ended[sent] += 1
        # Before the program takes signals, the system ends it.
        if sent == signal.SIGINT and child.returncode not in (128 + signal.SIGINT, -signal.SIGINT):
            sys.exit(f"status {child.returncode} at SIGINT: {errors.decode()}")
    if os.path.exists(new + ".partial"):
        if sent == signal.SIGINT:
            sys.exit(f"{new}.partial is left behind at SIGINT")
        os.unlink(new + ".partial")
print(f"{ended[signal.SIGINT]} ended by SIGINT, {ended[signal.SIGKILL]} by SIGKILL")
if min(ended.values()) < 5:
    sys.exit("the moments were too late to tell anything")
