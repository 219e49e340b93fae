#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Runs a command on a pseudo-terminal and answers its questions, as a person would.

    terminal.py ANSWERS COMMAND...

An answer is typed each time the words "Passphrase for" appear; then ctrl-C is typed once "Stop with" appears. ANSWERS are
separated by "|", and the last one is repeated. Escapes like \\r and \\x03 are understood; the answer SIGTERM is not typed
but sent to the command. Prints JSON: the exit status, all that was on the screen, how often the question was asked, and
whether the terminal echoed while it was open and after it.
"""
import codecs
import fcntl
import json
import os
import pty
import select
import sys
import termios
import time


def echoes(terminal):
    return bool(termios.tcgetattr(terminal)[3] & termios.ECHO)


def main():
    answers = codecs.escape_decode(sys.argv[1].encode())[0].split(b"|")
    # The parent keeps the child's side open too, to ask for the settings even after the child has gone.
    terminal, settings = pty.openpty()
    child = os.fork()
    if child == 0:
        os.setsid()
        fcntl.ioctl(settings, termios.TIOCSCTTY, 0)
        for descriptor in range(3):
            os.dup2(settings, descriptor)
        os.execv(sys.argv[2], sys.argv[2:])
    screen = b""
    asked = 0
    served = False
    echo_while_asking = None
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline:
        if select.select([terminal], [], [], 0.05)[0]:
            screen += os.read(terminal, 4096)
        if screen.count(b"Passphrase for") > asked:
            answer = answers[min(asked, len(answers) - 1)]
            asked += 1
            time.sleep(0.1)
            echo_while_asking = echoes(settings)
            if answer == b"SIGTERM":
                os.kill(child, 15)
            else:
                os.write(terminal, answer)
        if not served and b"Stop with" in screen:
            served = True
            os.write(terminal, b"\x03")
        ended = os.waitid(os.P_PID, child, os.WEXITED | os.WNOHANG | os.WNOWAIT)
        if ended and not select.select([terminal], [], [], 0.1)[0]:
            break
    else:
        os.kill(child, 9)
    _, status = os.waitpid(child, 0)
    print(json.dumps({
        "status": os.waitstatus_to_exitcode(status),
        "screen": screen.decode(errors="replace"),
        "asked": asked,
        "served": served,
        "echoWhileAsking": echo_while_asking,
        "echoAfterwards": echoes(settings),
    }))


main()
