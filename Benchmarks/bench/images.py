# SPDX-License-Identifier: Apache-2.0
"""The images: the same random disk in every container, and the special ones of the growth curves."""

import json
import os
import pathlib
import random
import shutil

from .process import Failed, run

PASSPHRASE = "correct horse battery staple"
# Deriving a key must cost nothing: nbdkit does it for every connection.
CHEAP = ["--pbkdf-force-iterations", "1000", "--hash", "sha256"]
# In qcow2 only qemu-img makes LUKS, and it measures how many iterations take so many milliseconds.
QCOW2_LUKS = ["cipher-alg=aes-256", "cipher-mode=xts", "ivgen-alg=plain64", "hash-alg=sha256", "iter-time=10"]
LUKS1 = {"luks1-xts": ("aes-xts-plain64", "512"), "luks1-essiv": ("aes-cbc-essiv:sha256", "256")}
LUKS1_HEADER, LUKS2_HEADER = 2 << 20, 16 << 20

# In the order in which they are measured.
KINDS = {
    "raw": "raw",
    "qcow2": "qcow2 plain",
    "qcow2-compressed": "qcow2 compressed (text)",
    "qcow2-aes": "qcow2 AES",
    "qcow2-luks": "qcow2 LUKS aes-xts",
    "luks1-xts": "raw LUKS1 aes-xts",
    "luks1-essiv": "raw LUKS1 aes-cbc-essiv:sha256",
    "luks2-512": "LUKS2 aes-xts, sectors of 512",
    "luks2-4096": "LUKS2 aes-xts, sectors of 4096",
}
ENCRYPTED = [kind for kind in KINDS if "luks" in kind or "aes" in kind]


class Images:
    """Makes images when they are first asked for, below one directory, and keeps them for the next run."""

    def __init__(self, directory, mebibytes):
        self.mebibytes = mebibytes
        self.directory = pathlib.Path(directory).resolve() / f"images-{mebibytes}M"
        self.directory.mkdir(parents=True, exist_ok=True)
        self.passphrase = self.directory / "passphrase"
        self.passphrase.write_text(PASSPHRASE)
        self.secret = ["--object", f"secret,id=key,file={self.passphrase}"]
        self.broken = {}

    def path(self, kind):
        """The image of a kind of KINDS."""
        name = "disk.raw" if kind == "raw" else kind
        return self.made(name, lambda path: self._fill(kind, path))

    def made(self, name, fill):
        """A file that `fill` makes under another name first: a file that is there is complete. What could not be made
        is not tried again in this run."""
        path = self.directory / name
        if name in self.broken:
            raise self.broken[name]
        if not path.exists():
            partial = path.with_name(path.name + ".partial")
            partial.unlink(missing_ok=True)
            try:
                fill(partial)
            except (OSError, Failed) as error:
                partial.unlink(missing_ok=True)
                self.broken[name] = Failed(f"the image {name} cannot be made: {error}")
                raise self.broken[name] from None
            partial.rename(path)
        return path

    def other(self):
        """A disk of the same size with other data, which is written over the first one."""
        return self.made("other.raw", self._random)

    def fresh(self, kind, path):
        """Makes an image without data: an encrypted one of a kind of KINDS, or a raw one."""
        if kind == "raw":
            with open(path, "wb") as file:
                file.truncate(self.mebibytes << 20)
        elif kind == "qcow2-aes":
            self.create_aes(path, f"{self.mebibytes}M")
        elif kind == "qcow2-luks":
            self.create_qcow2_luks(path, f"{self.mebibytes}M")
        else:
            cipher, key_size = LUKS1[kind]
            self._format(path, LUKS1_HEADER, "--type", "luks1", "--cipher", cipher, "--key-size", key_size)

    def _random(self, path):
        with open("/dev/urandom", "rb") as source, open(path, "wb") as file:
            for _ in range(self.mebibytes):
                file.write(source.read(1 << 20))

    def _fill(self, kind, path):
        if kind == "raw":
            self._random(path)
        elif kind == "qcow2":
            run("qemu-img", "convert", "-f", "raw", "-O", "qcow2", self.path("raw"), path)
        elif kind == "qcow2-compressed":
            self._compressed(path)
        elif kind == "qcow2-aes":
            self.fresh(kind, path)
            self._copy_into(f"driver=qcow2,file.filename={path},encrypt.format=aes,encrypt.key-secret=key")
        elif kind == "qcow2-luks":
            self.fresh(kind, path)
            self._copy_into(f"driver=qcow2,file.filename={path},encrypt.format=luks,encrypt.key-secret=key")
        elif kind in LUKS1:
            self.fresh(kind, path)
            self._copy_into(f"driver=luks,file.filename={path},key-secret=key")
        else:
            self._luks2(path, kind.removeprefix("luks2-"))

    def _copy_into(self, options):
        run("qemu-img", "convert", "-n", "-f", "raw", *self.secret, self.path("raw"), "--target-image-opts", options)

    def _compressed(self, path):
        """Text, which is half its size compressed: random bytes would not be stored compressed."""
        words = [random.Random(number).randbytes(number % 9 + 2).hex() for number in range(4000)]
        text = path.with_name(path.name + ".text")
        try:
            with open(text, "wb") as file:
                for number in range(0, self.mebibytes, 16):
                    block = " ".join(random.Random(number).choices(words, k=1_300_000)).encode()
                    count = min(16, self.mebibytes - number) << 20
                    file.write((block + block)[:count])
            run("qemu-img", "convert", "-c", "-f", "raw", "-O", "qcow2", text, path)
        finally:
            text.unlink(missing_ok=True)

    def _luks2(self, path, sector):
        """Nothing here writes LUKS2 without root, so the disk is put behind the header as it is: reads decrypt it to
        noise, which costs what decrypting data costs."""
        self._format(path, LUKS2_HEADER, "--type", "luks2", "--pbkdf", "pbkdf2", "--cipher", "aes-xts-plain64",
                     "--key-size", "512", "--sector-size", sector)
        with open(self.path("raw"), "rb") as source, open(path, "r+b") as file:
            file.seek(LUKS2_HEADER)
            shutil.copyfileobj(source, file, 1 << 20)

    def _format(self, path, header, *options):
        with open(path, "wb") as file:
            file.truncate(header + (self.mebibytes << 20))
        run("cryptsetup", "luksFormat", "--batch-mode", *CHEAP, *options, "--offset", header // 512,
            "--key-file", self.passphrase, path)

    def create_qcow2_luks(self, path, size):
        """On a busy machine, qemu-img at times cannot measure iterations."""
        options = ["encrypt.format=luks", "encrypt.key-secret=key", *("encrypt." + option for option in QCOW2_LUKS)]
        for attempt in range(20):
            try:
                run("qemu-img", "create", "-q", "-f", "qcow2", *self.secret, "-o", ",".join(options), path, size)
                return
            except Failed as error:
                if attempt == 19 or "CPU usage" not in str(error):
                    raise

    def create_aes(self, path, size, *more):
        run("qemu-img", "create", "-q", "-f", "qcow2", *self.secret, *more,
            "-o", "encrypt.format=aes,encrypt.key-secret=key", path, size)

    def write_aes(self, path, writes):
        """Has qemu-io write to an AES image without looking at its backing file; `writes`: offset and length."""
        description = {"driver": "qcow2", "backing": None, "file": {"driver": "file", "filename": str(path)},
                       "encrypt": {"format": "aes", "key-secret": "key"}}
        commands = [word for offset, count in writes for word in ("-c", f"write -q -P 0x41 {offset} {count}")]
        run("qemu-io", *self.secret, "json:" + json.dumps(description), *commands)

    def sparse(self, gibibytes):
        """An AES image with 64 KiB of letters at each of 64 places; the last one is at its end."""
        def fill(path):
            self.create_aes(path, f"{gibibytes}G")
            step = (gibibytes << 30) // 64
            self.write_aes(path, [(step * (place + 1) - (64 << 10), 64 << 10) for place in range(64)])
        return self.made(f"sparse-{gibibytes}G.qcow2", fill)

    def chain(self, depth, mebibytes):
        """AES images, each backed by the next, that hold a disk together: of every `depth` MiB each has one. The first
        is the active one."""
        paths = [self.directory / f"chain-{depth}-{mebibytes}M-{layer}.qcow2" for layer in range(depth)]

        def fill(done):
            for layer, path in enumerate(paths):
                path.unlink(missing_ok=True)
                backing = ["-u", "-b", paths[layer + 1].name, "-F", "qcow2"] if layer + 1 < depth else []
                self.create_aes(path, f"{mebibytes}M", *backing)
                self.write_aes(path, [(place << 20, 1 << 20) for place in range(layer, mebibytes, depth)])
            done.touch()

        self.made(f"chain-{depth}-{mebibytes}M.done", fill)
        return paths

    def check_room(self):
        """Raises Failed when the disk will not hold the images that are missing."""
        missing = [kind for kind in KINDS if not (self.directory / ("disk.raw" if kind == "raw" else kind)).exists()]
        # And one that is being made or, for each server, written.
        wanted = ((len(missing) + 5) * self.mebibytes << 20) + (1 << 30) // 4
        free = shutil.disk_usage(self.directory).free
        if free < wanted:
            raise Failed(f"{self.directory} has {free >> 20:,} MiB free and the images need {wanted >> 20:,}: "
                         "set BENCH_DIR to another directory, or give --size or --quick")

    def fast_directory(self):
        """Where a client may write a copy of the disk: in memory if that does not push the images out of it."""
        wanted = self.mebibytes << 20
        memory = pathlib.Path("/dev/shm")
        with open("/proc/meminfo", encoding="ascii") as file:
            available = next(int(line.split()[1]) << 10 for line in file if line.startswith("MemAvailable:"))
        fits = memory.is_dir() and os.access(memory, os.W_OK) and shutil.disk_usage(memory).free > 2 * wanted
        return memory if fits and available > 5 * wanted else self.directory
