# SPDX-License-Identifier: Apache-2.0
"""Makes LUKS images and what their plaintext must be. The table of images is in luks_matrix.py."""
import concurrent.futures
import hashlib
import json
import os
import random
import shutil
import subprocess
import time

import luks_headers
from luks_ciphers import SectorCipher, has_cipher
from luks_headers import LUKS2

ROOT = os.path.realpath(os.path.join(os.path.dirname(__file__), "../../.."))
PASSPHRASE = b"correct horse battery staple"
# Small and cheap: what costs time in a virtual machine without KVM.
CHEAP_PBKDF2 = ["--pbkdf-force-iterations", "1000"]
SMALL_LUKS2 = ["--luks2-metadata-size", "16k", "--luks2-keyslots-size", "256k", "--offset", "576"]
SECTORS = 1016


class Failed(Exception):
    """An image cannot be made, or two oracles disagree."""


def run(*command, attempts=1):
    """Runs a program that must succeed, and gives its output."""
    while True:
        result = subprocess.run(
            [str(word) for word in command], stdout=subprocess.PIPE, stderr=subprocess.PIPE, stdin=subprocess.DEVNULL,
            env={
                "VM_TIMEOUT": "800", **os.environ, "LC_ALL": "C", "PATH": os.environ["PATH"] + ":/usr/sbin:/sbin"})
        if result.returncode == 0:
            return result.stdout.decode()
        attempts -= 1
        if attempts < 1:
            raise Failed(f"{' '.join(map(str, command))}: {result.returncode}\n{result.stderr.decode()}")
        time.sleep(0.02)


class Image:
    """An image that is being made: its files, and how it is opened."""

    def __init__(self, maker, name, oracle):
        self.maker, self.name, self.oracle = maker, name, oracle
        self.group = maker.group
        self.random = random.Random(name)
        self.noise = self.random.randbytes
        self.path = self.file("img")
        self.served = None
        self.secrets = []
        self.plain = None
        self.key = None
        self.cipher = None
        self.sector_size = 512

    def file(self, suffix):
        return os.path.join(self.maker.directory, f"{self.name}.{suffix}")

    def write(self, suffix, data):
        with open(self.file(suffix), "wb") as file:
            file.write(data)
        return self.file(suffix)

    def passphrase(self, text=PASSPHRASE, suffix="key", newline=False):
        """A secret in a file. cryptsetup takes the file as it is; the program is given one with a newline if asked."""
        path = self.write(suffix, text)
        served = self.write(f"{suffix}.line", text + b"\n") if newline else path
        self.secrets += ["--passphrase-file", served]
        return path

    # --- the ciphertext

    @property
    def offset(self):
        """Where the data begins, in bytes."""
        with open(self.path, "rb") as file:
            if file.read(8) == b"LUKS\xba\xbe\0\x01":
                return luks_headers.luks1_payload(self.path) * 512
        return int(LUKS2(self.path).segments["0"]["offset"])

    def text(self, count):
        """Plaintext: noise with a stretch of zeros in it."""
        data = bytearray(self.noise(count))
        start = count // 3 // 512 * 512
        data[start:start + 8192] = bytes(len(data[start:start + 8192]))
        return bytes(data)

    def encrypt(self, sectors=SECTORS, tail=0, first=0, path=None, offset=None):
        """Puts known plaintext into the image. `tail` bytes of noise follow that make no sector."""
        self.plain = self.text(sectors * 512)
        cipher = SectorCipher(self.cipher, self.key, self.sector_size)
        self.put(self.offset if offset is None else offset, cipher.encrypt(self.plain, first), path, self.noise(tail))

    def put(self, offset, data, path=None, tail=b""):
        """Writes the data area; the file ends with it."""
        with open(path or self.path, "r+b") as file:
            file.truncate(offset)
            file.seek(offset)
            file.write(data + tail)

    def check_with_python(self, first=0):
        """Encrypts the plaintext that dm-crypt gave, where there is a block cipher for it: the two must agree."""
        if self.cipher is None or not has_cipher(self.cipher):
            return
        with open(self.path, "rb") as file:
            file.seek(self.offset)
            data = file.read()[:len(self.plain)]
        if SectorCipher(self.cipher, self.key, self.sector_size).encrypt(self.plain, first) != data:
            raise Failed(f"{self.name}: dm-crypt and Python disagree about {self.cipher}")
        self.oracle += " and Python"

    # --- the manifest

    def describe(self):
        sha256 = hashlib.sha256(self.plain).hexdigest()
        self.write("plain", self.plain)
        return {
            "name": self.name, "group": self.group, "oracle": self.oracle, "arguments": (self.served or [self.path]) + self.secrets,
            "plaintext": self.file("plain"), "size": len(self.plain), "sha256": sha256,
        }


class Maker:
    """Makes the images of a group in a directory."""

    def __init__(self, directory):
        self.directory = directory
        self.images = []
        self.jobs = []
        self.slow = []
        self.finishers = {}
        self.group = None
        shutil.rmtree(directory, ignore_errors=True)
        os.makedirs(directory)

    def begin(self, group):
        """What is made from now on belongs to this group."""
        self.group = group

    def image(self, name, oracle):
        image = Image(self, name, oracle)
        self.images.append(image)
        return image

    def later(self, function, *arguments, **more):
        """Leaves work that takes seconds for the end, when it is shared among the processors."""
        self.slow.append((function, arguments, more))

    # --- cryptsetup

    def luks(self, name, version, cipher, bits, *options, oracle="Python", newline=False, sector_size=512, small=True):
        """An image formatted by cryptsetup, here; its data is not written yet."""
        image = self.image(name, oracle)
        image.cipher, image.sector_size = cipher, sector_size
        image.key = image.noise(bits // 8)
        image.passphrase(newline=newline)
        with open(image.path, "wb") as file:
            file.truncate(32 << 20)
        run("cryptsetup", "luksFormat", "--batch-mode", *self.options(image, version, bits, options, small),
            "--volume-key-file", image.write("volume-key", image.key), "--key-file", image.file("key"), image.path)
        return image

    def options(self, image, version, bits, options, small=True):
        result = ["--type", f"luks{version}", "--cipher", image.cipher, "--key-size", str(bits)]
        if not any(option == "--pbkdf" and value.startswith("argon2") for option, value in zip(options, options[1:])):
            result += CHEAP_PBKDF2 + (["--pbkdf", "pbkdf2"] if version == 2 else [])
        if version == 2:
            result += SMALL_LUKS2 if small else []
            result += ["--sector-size", str(image.sector_size)]
        return result + list(options)

    # --- the kernel

    def opened_by_kernel(self, image, sectors=SECTORS, *options):
        """Noise for ciphertext; dm-crypt says what it means."""
        image.put(image.offset, image.noise(sectors * 512))
        self.job("open", image, *options)

    def formatted_by_kernel(self, name, version, cipher, bits, *options, sector_size=512):
        """An image whose cipher this machine may not have: cryptsetup formats it in the virtual machine."""
        image = self.image(name, "dm-crypt")
        image.cipher, image.sector_size = cipher, sector_size
        image.key = image.noise(bits // 8)
        image.passphrase()
        image.write("volume-key", image.key)
        image.write("img", b"")
        image.put((576 if version == 2 else 4096) * 512, image.noise(SECTORS * 512))
        if version == 1:
            options += ("--offset", "4096")
        self.job("format", image, *self.options(image, version, bits, options))
        return image

    def job(self, action, image, *words):
        self.jobs.append((action, image, words))

    def table(self, image, lines, check=None):
        """Opens an image by a table of dm targets, with LOOP for the image."""
        image.write("table", "".join(f"{line}\n" for line in lines).encode())
        self.job("table", image)
        self.finishers[image.name] = check or (lambda: None)

    def run_kernel(self):
        """Boots the virtual machine once for all images, and takes what it left."""
        share, out = os.path.join(self.directory, "share"), os.path.join(self.directory, "out")
        os.mkdir(share)
        os.mkdir(out)
        with open(os.path.join(share, "jobs"), "w") as file:
            for action, image, words in self.jobs:
                print(action, image.name, *words, file=file)
                for suffix in ("img", "key", "volume-key", "table"):
                    if os.path.exists(image.file(suffix)):
                        # With its holes.
                        run("cp", "--sparse=always", image.file(suffix), share)
        script = os.path.join(os.path.dirname(os.path.realpath(__file__)), "luks_guest.sh")
        said = run(os.path.join(ROOT, "scripts/vm"), "run", "--share", share, "--out", out, script)
        if said.strip():
            raise Failed(f"in the virtual machine:\n{said}")
        for action, image, _ in self.jobs:
            if action == "format":
                shutil.copy(os.path.join(out, f"{image.name}.img"), image.path)
            with open(os.path.join(out, f"{image.name}.plain"), "rb") as file:
                image.plain = file.read()
            if not image.plain:
                raise Failed(f"{image.name}: dm-crypt gives nothing")
            self.finishers.get(image.name, image.check_with_python)()
        shutil.rmtree(share)
        shutil.rmtree(out)

    def finish(self):
        """Writes the manifest."""
        with concurrent.futures.ThreadPoolExecutor(os.cpu_count()) as pool:
            for future in [pool.submit(function, *words, **more) for function, words, more in self.slow]:
                future.result()
        if self.jobs:
            self.run_kernel()
        with open(os.path.join(self.directory, "manifest.json"), "w") as file:
            json.dump([image.describe() for image in self.images], file, indent=1)
