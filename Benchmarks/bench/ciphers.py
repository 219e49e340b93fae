# SPDX-License-Identifier: Apache-2.0
"""The cipher layer alone: nbdecrypt's, with sectors of 512 bytes, against one call of a library for 256 KiB."""

import ctypes
import functools
import os
import statistics
import subprocess

from .process import Failed, run
from .results import Row
from .servers import ROOT

PACKAGE = ROOT / "Benchmarks/Ciphers"
LIBRARIES = ("OpenSSL", "libgcrypt")
# Row, specification, bytes of key, name for OpenSSL, name and mode for libgcrypt.
CIPHERS = (
    ("aes-cbc, 128 bits", "aes-cbc-plain64", 16, "AES-128-CBC", "AES", "cbc"),
    ("aes-cbc, 256 bits", "aes-cbc-plain64", 32, "AES-256-CBC", "AES256", "cbc"),
    ("aes-xts, 2 × 256 bits", "aes-xts-plain64", 64, "AES-256-XTS", "AES256", "xts"),
)
WHOLE_BUFFER = 256 << 10
LIMIT = "one call"
SECTORS = "sectors of 512"
# CBC alone: it cannot encrypt the blocks of a sector side by side, but it can encrypt sectors so.
ENCRYPTING, ENCRYPTING_LIMIT = "encrypting, sectors of 512", "encrypting, a call for each sector"


class Ciphers:
    def __init__(self, session, rounds):
        self.session, self.rounds = session, rounds
        self.plan = [(cipher, cell) for cell in (SECTORS, ENCRYPTING) for cipher in CIPHERS
                     if (cell == SECTORS or cipher[5] == "cbc") and session.wants(Row("ciphers", cipher[0], cell))]

    def names(self):
        return [f"ciphers/{cipher[0]}/{cell}" for cipher, cell in self.plan]

    def seconds(self):
        return (self.rounds * len(self.plan) * 5 + 90) if self.plan else 0

    def prerequisites(self):
        return {}

    def run(self):
        if not self.plan:
            return
        self.session.say("ciphers: building Benchmarks/Ciphers")
        try:
            program, library = self._build()
        except (Failed, OSError) as error:
            self.session.failed(Row("ciphers", "*", SECTORS), "nbdecrypt", error)
            return
        self.session.done += 90
        for number in range(self.rounds):
            for (name, specification, key, openssl, gcrypt, mode), cell in self.plan:
                encrypting = cell == ENCRYPTING
                unit = 512 if encrypting else WHOLE_BUFFER
                limits = {"OpenSSL": functools.partial(library.openssl_speed, openssl.encode(), encrypting, unit, 0.5),
                          "libgcrypt": functools.partial(library.gcrypt_speed, gcrypt.encode(), mode.encode(), key,
                                                         encrypting, unit, 0.5)}
                for server, limit in limits.items():
                    self.session.measured(Row("ciphers", name, ENCRYPTING_LIMIT if encrypting else LIMIT), server,
                                          number, "GB/s", lambda limit=limit: limit() / 1e9, 0.5)
                self.session.measured(Row("ciphers", name, cell), "nbdecrypt", number, "GB/s",
                                      functools.partial(self._own, program, specification, key, encrypting), 4)
        self.session.milestone("ciphers: done")

    @staticmethod
    def _own(program, specification, key, encrypting):
        """It prints the speed of a tenth of a second, 30 times."""
        words = [program, "-", specification, key, *(["encrypt"] if encrypting else [])]
        return statistics.median(float(line) for line in run(*words).split())

    def _build(self):
        swift = run(ROOT / "scripts/bootstrap", "--print-path").strip()
        build = ["build", "-c", "release", "--package-path", PACKAGE]
        environment = f"{swift}:{os.environ['PATH']}"
        result = subprocess.run(["nice", f"{swift}/swift", *map(str, build)], stdout=subprocess.PIPE,
                                stderr=subprocess.STDOUT, text=True, check=False,
                                env={**os.environ, "PATH": environment})
        if result.returncode != 0:
            raise Failed(f"Benchmarks/Ciphers cannot be built: {result.stdout[-2000:]}")
        sources = PACKAGE / "Sources/CLibrarySpeed"
        path = PACKAGE / ".build/librarySpeed.so"
        run(f"{swift}/clang", "-O2", "-shared", "-fPIC", "-I", sources / "include", sources / "CLibrarySpeed.c",
            "-o", path, "-lcrypto", "-lgcrypt")
        library = ctypes.CDLL(str(path))
        library.gcry_check_version(None)
        library.openssl_speed.restype = library.gcrypt_speed.restype = ctypes.c_double
        library.openssl_speed.argtypes = [ctypes.c_char_p, ctypes.c_bool, ctypes.c_size_t, ctypes.c_double]
        library.gcrypt_speed.argtypes = [ctypes.c_char_p, ctypes.c_char_p, ctypes.c_size_t, ctypes.c_bool,
                                         ctypes.c_size_t, ctypes.c_double]
        return PACKAGE / ".build/release/measure", library
