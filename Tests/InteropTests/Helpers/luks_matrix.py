# SPDX-License-Identifier: Apache-2.0
"""The table of LUKS images: what is made, and who says what its plaintext is."""
import itertools
import os

from luks_kernel_images import kernel_segments
from luks_known_images import (
    known_containers, known_headers, known_keyslots, known_secrets, known_segments, refused_ciphers)
from luks_qemu_images import nested_images, qemu_qcow2, qemu_raw


def kernel_ciphers(maker):
    """Every cipher of the Debian kernel in every mode; cryptsetup in the virtual machine formats them. AES is below."""
    for version, cipher, bits in [
        (1, "serpent-xts-plain64", 256), (2, "serpent-xts-plain64", 512), (2, "serpent-xts-plain", 384),
        (1, "serpent-cbc-essiv:sha256", 256), (2, "serpent-cbc-plain64", 128), (2, "serpent-cbc-plain64be", 192),
        (1, "serpent-ecb", 256), (2, "serpent-ctr-plain64", 256),
        (1, "serpent-cbc-benbi", 256),
        (1, "twofish-xts-plain64", 512), (2, "twofish-xts-plain64", 256),
        (1, "twofish-cbc-essiv:sha256", 256), (1, "twofish-cbc-plain", 128),
        (2, "twofish-ecb", 256), (1, "twofish-ctr-plain64", 256), (2, "twofish-cbc-benbi", 256),
        (2, "twofish-cbc-eboiv", 256),
        (1, "camellia-xts-plain64", 512), (2, "camellia-xts-plain64", 256), (2, "camellia-xts-plain64be", 384),
        (1, "camellia-cbc-plain64", 192), (2, "camellia-cbc-essiv:sha256", 256), (2, "camellia-ecb", 128),
        (2, "camellia-ctr-plain64", 256),
        (1, "cast5-cbc-plain64", 128), (2, "cast5-cbc-benbi", 128), (2, "cast5-ecb", 128), (1, "cast5-ctr-plain64", 128),
        (2, "cast5-cbc-essiv:md5", 128),
        (1, "blowfish-cbc-plain64", 128), (2, "blowfish-cbc-essiv:sha256", 256), (2, "blowfish-cbc-benbi", 192),
        (1, "blowfish-ecb", 256), (2, "blowfish-ctr-plain64", 256), (2, "blowfish-cbc-plain", 448),
        (1, "des3_ede-cbc-plain64", 192), (2, "des3_ede-cbc-benbi", 192), (2, "des3_ede-ecb", 192),
        (2, "des3_ede-ctr-plain64", 192),
        (2, "aes-xts-plain64", 384), (1, "aes-xts-plain64", 384), (1, "aes-cbc-essiv:sha256", 192),
        (1, "aes-lrw-benbi", 256), (2, "aes-lrw-benbi", 384), (1, "aes-lrw-plain64", 384),
        (2, "aes-lrw-plain64be", 320), (2, "aes-lrw-essiv:sha256", 384),
        (1, "serpent-lrw-benbi", 384), (2, "twofish-lrw-benbi", 320), (2, "twofish-lrw-plain64", 384),
        (1, "camellia-lrw-plain64", 384),
        (1, "aes-cbc-essiv:wp256", 256), (2, "aes-xts-essiv:wp256", 512), (2, "blowfish-cbc-essiv:wp384", 256),
        (1, "twofish-xts-plain64", 384), (2, "twofish-cbc-essiv:sha256", 192), (1, "twofish-ecb", 192),
        (2, "twofish-ctr-plain64", 192), (2, "twofish-cbc-eboiv", 192),
        # Options that a vector does not use.
        (1, "aes-xts-plain64:sha256", 512), (2, "aes-cbc-plain:x", 256), (2, "aes-cbc-null:x", 128),
        (1, "aes-cbc-benbi:x", 256), (2, "aes-xts-plain64be:x", 512),
        (2, "aes-cbc-eboiv:x", 256),
    ]:
        # cryptsetup takes for keyslots of LUKS2 what it knows itself; for those of LUKS1, whatever dm-crypt takes.
        odd = version == 2 and (":wp" in cipher or cipher.endswith(":x"))
        options = ["--keyslot-cipher", "aes-xts-plain64", "--keyslot-key-size", "512"] if odd else []
        maker.formatted_by_kernel(f"luks{version}-{cipher}-{bits}", version, cipher, bits, *options)


def kernel_aes(maker):
    """AES in every mode with every IV; cryptsetup formats them here, dm-crypt opens them."""
    xts = [("xts", iv, bits) for iv, bits in [
        ("plain", 256), ("plain64", 256), ("plain64", 512), ("plain64be", 512), ("essiv:sha256", 512), ("benbi", 256),
        ("null", 512)]]
    cbc = [("cbc", iv, bits) for iv, bits in [
        ("plain", 256), ("plain64", 128), ("plain64", 192), ("plain64", 256), ("plain64be", 256), ("null", 128),
        ("benbi", 256), ("eboiv", 256), ("essiv:sha256", 128), ("essiv:sha256", 256), ("essiv:sha3-256", 256),
        ("essiv:md5", 256)]]
    ctr = [("ctr", iv, bits) for iv, bits in [("plain64", 128), ("plain64", 192), ("plain64be", 256), ("plain", 256)]]
    ecb = [("ecb", None, bits) for bits in (128, 192, 256)]
    for index, (mode, iv, bits) in enumerate(xts + cbc + ctr + ecb):
        version = 1 + index % 2
        cipher = f"aes-{mode}-{iv}" if iv else f"aes-{mode}"
        image = maker.luks(f"luks{version}-{cipher}-{bits}", version, cipher, bits, oracle="dm-crypt")
        maker.opened_by_kernel(image)


def kernel_sector_sizes(maker):
    """The IV counts 512 bytes whatever the sector size."""
    ciphers = [("aes-xts-plain64", 512), ("aes-xts-essiv:sha256", 512), ("aes-cbc-essiv:sha256", 256),
               ("aes-cbc-eboiv", 256), ("aes-cbc-benbi", 256), ("aes-ctr-plain64", 256)]
    for size, (cipher, bits) in itertools.product((1024, 2048, 4096), ciphers):
        if size != 4096 and cipher in ("aes-cbc-benbi", "aes-ctr-plain64"):
            continue
        image = maker.luks(
            f"luks2-{cipher}-{bits}-sector-{size}", 2, cipher, bits, oracle="dm-crypt", sector_size=size)
        maker.opened_by_kernel(image)
    maker.formatted_by_kernel("luks2-serpent-xts-plain64-512-sector-4096", 2, "serpent-xts-plain64", 512, sector_size=4096)
    maker.formatted_by_kernel("luks2-twofish-cbc-essiv-256-sector-2048", 2, "twofish-cbc-essiv:sha256", 256, sector_size=2048)
    maker.formatted_by_kernel("luks2-aes-lrw-benbi-384-sector-4096", 2, "aes-lrw-benbi", 384, sector_size=4096)


GROUPS = {
    "kernel-ciphers": kernel_ciphers,
    "kernel-aes": kernel_aes,
    "kernel-sector-sizes": kernel_sector_sizes,
    "kernel-segments": kernel_segments,
    "headers": known_headers,
    "keyslots": known_keyslots,
    "containers": known_containers,
    "secrets": known_secrets,
    "segments": known_segments,
    "refused": refused_ciphers,
    "qemu-raw": qemu_raw,
    "qemu-qcow2": qemu_qcow2,
    "nested": nested_images,
}

LIST = os.path.join(os.path.dirname(os.path.realpath(__file__)), "luks_images.txt")


def listed(groups):
    """The names that luks_images.txt lists for these groups: what the tests count on."""
    with open(LIST) as file:
        lines = [line.split() for line in file if not line.startswith("#")]
    return [tuple(line) for line in lines if line and line[0] in groups]
