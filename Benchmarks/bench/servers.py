# SPDX-License-Identifier: Apache-2.0
"""The servers: how each is told to serve an image, and one that runs."""

import contextlib
import functools
import os
import pathlib
import shlex
import subprocess
import tempfile
import time

from . import peers
from .nbd import Client
from .process import Failed, die_with_parent, last_line, memory, words

ROOT = pathlib.Path(__file__).resolve().parent.parent.parent
NBDECRYPT = os.environ.get("NBDECRYPT", str(ROOT / ".build/release/nbdecrypt"))
# Read-only, any number of clients one after the other, 16 at once (with more than one it offers multi-conn, so that
# nbdcopy opens 4 connections). Its threads read the page cache; --aio=native would want O_DIRECT.
QEMU_NBD = shlex.split(os.environ.get("QEMU_NBD_FLAGS", "-r -t --cache=writeback --aio=threads"))
# As it comes: 16 threads for each connection.
NBDKIT = shlex.split(os.environ.get("NBDKIT_FLAGS", "-f -r"))

OWN, EARLIER = "nbdecrypt", "earlier build"
# Our own builds, by the names of their columns; `--against` adds one.
BUILDS = {OWN: NBDECRYPT}
# nbdecrypt and nbdkit serving the plaintext file, beside an image of another kind: what the transport allows.
OWN_RAW, CEILING = "nbdecrypt raw", "nbdkit raw"
# It takes all that is written and keeps nothing: what a client can do. With one thread, which no other waits for.
LIMIT = "nbdkit null"


def servers(peers=("qemu-nbd", "nbdkit")):
    """Whom to measure: our own builds, and peers."""
    return (*BUILDS, *peers)


@functools.cache
def has_qcow2_filter():
    result = subprocess.run(peers.inside(["nbdkit", "--filter=qcow2dec", "null", "--dump-plugin"]),
                            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, check=False)
    return result.returncode == 0


def cannot(server, kind):
    """Why a server cannot open images of a kind, or None if it can."""
    if kind.startswith("luks2") and server not in BUILDS:
        return f"{server} does not open LUKS2"
    if server == "nbdkit":
        if kind in ("qcow2-aes", "qcow2-luks"):
            return "nbdkit does not open encrypted qcow2"
        if kind == "luks1-essiv":
            return "nbdkit's luks filter has no essiv"
        if kind.startswith("qcow2") and not has_qcow2_filter():
            return "this nbdkit has no qcow2dec filter (1.36 has)"
    return None


def command(server, kind, path, images, socket, connections=16, check_passphrase=False, writable=False):
    """The command line that has `server` listen on a Unix socket. `path`: the image; with `writable`, also of the
    plaintext that OWN_RAW serves."""
    if server in (OWN_RAW, CEILING):
        return command(server.split()[0], "raw", path if writable else images.path("raw"), images, socket, connections,
                       writable=writable)
    if server == LIMIT:
        return ["nbdkit", *writing(NBDKIT), "-t", "1", "-U", socket, "null", images.mebibytes << 20]
    encrypted = "luks" in kind or "aes" in kind
    if server in BUILDS:
        options = ["--format", "raw"] if kind == "raw" else []
        if encrypted:
            options += ["--passphrase-file", images.passphrase]
        if "aes" in kind and not check_passphrase:
            options += ["--no-passphrase-check"]
        if writable:
            options += ["--writable"]
        return [BUILDS[server], "serve", path, *options, "--max-connections", max(connections * 2, 1024), "--socket",
                socket]
    if server == "qemu-nbd":
        start = ["qemu-nbd", *(writing(QEMU_NBD) if writable else QEMU_NBD), "-e", connections, "-k", socket]
        if not encrypted:
            return [*start, "-f", "raw" if kind == "raw" else "qcow2", path]
        return [*start, *images.secret, "--image-opts", qemu_options(kind, path)]
    start = ["nbdkit", *(writing(NBDKIT) if writable else NBDKIT), "-U", socket]
    if kind.startswith("luks"):
        return [*start, "--filter=luks", "file", path, f"passphrase=+{images.passphrase}"]
    return [*start, *(["--filter=qcow2dec"] if kind.startswith("qcow2") else []), "file", path]


def writing(flags):
    return [flag for flag in flags if flag != "-r"]


def qemu_options(kind, path):
    if kind == "raw":
        return f"driver=raw,file.filename={path}"
    if kind.startswith("luks1"):
        return f"driver=luks,file.filename={path},key-secret=key"
    method = "aes" if kind == "qcow2-aes" else "luks"
    return f"driver=qcow2,file.filename={path},encrypt.format={method},encrypt.key-secret=key"


def qemu_chain_options(paths):
    """The same for a chain of AES images: every layer wants the secret."""
    layers = []
    for depth, path in enumerate(paths):
        place = "backing." * depth
        layers.append(f"{place}driver=qcow2,{place}file.filename={path},{place}encrypt.format=aes,"
                      f"{place}encrypt.key-secret=key")
    return ",".join(layers)


class Server:
    """A server that listens on a Unix socket in a private directory. `with` stops it, whatever happens."""

    def __init__(self, make_command, watch=True, probe=lambda client: None):
        """`make_command`: from the path of the socket to a command line. `watch`: die with this program; that takes a
        slower way to start it, so not where starting is timed. `probe`: what the first client does; `ready` is the
        time until then, in seconds."""
        self.make_command, self.watch, self.probe = make_command, watch, probe
        self.process = self.pid = self.ready = None

    def __enter__(self):
        self.directory = tempfile.TemporaryDirectory(prefix="nbdecrypt-bench-")
        self.socket = pathlib.Path(self.directory.name) / "nbd"
        self.errors = pathlib.Path(self.directory.name) / "errors"
        self.words = words(self.make_command(self.socket))
        self.started = time.monotonic()
        try:
            with open(self.errors, "wb") as errors:
                self.process = subprocess.Popen(peers.inside(self.words), stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
                                                stderr=errors, preexec_fn=die_with_parent if self.watch else None)
            self.pid = self.process.pid
            client = self.first_client()
            try:
                self.probe(client)
                self.ready = time.monotonic() - self.started
            finally:
                client.close()
        except OSError as error:
            self.stop()
            raise Failed(f"{self.words[0]} cannot be run: {error}") from None
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(self, *_):
        self.stop()

    @property
    def uri(self):
        return f"nbd+unix:///?socket={self.socket}"

    def first_client(self):
        """Connects as soon as somebody listens, waiting a minute at most."""
        while time.monotonic() < self.started + 60:
            with contextlib.suppress(OSError):
                return Client(self.socket)
            self.check()
            time.sleep(0.0005)
        raise Failed(f"{self.words[0]} has not served anybody for a minute: {self.last_words()}")

    def check(self):
        """Raises Failed when the server has ended."""
        if self.process.poll() is not None:
            raise Failed(f"{self.words[0]} ended with {self.process.returncode}: {self.last_words()}")

    def last_words(self):
        return last_line(self.errors.read_text(errors="replace"))

    def stop(self):
        if self.process and self.process.poll() is None:
            self.process.terminate()
            try:
                self.process.wait(10)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()
        self.directory.cleanup()


def first_byte(make_command, offset=0):
    """Milliseconds from starting a server to the first 4 KiB that it serves, and its resident memory then in MiB.
    `offset`: where they are; from the end if negative."""
    def probe(client):
        client.read(offset if offset >= 0 else client.size + offset, 4096)

    with Server(make_command, watch=False, probe=probe) as server:
        return server.ready * 1000, memory(server.pid, "VmRSS")
