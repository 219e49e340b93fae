# SPDX-License-Identifier: Apache-2.0
"""LUKS images whose plaintext was encrypted here, with Python's `cryptography`: headers, keyslots and secrets of every kind."""
import json

from luks_ciphers import SectorCipher
from luks_headers import LUKS2, luks1_header, luks1_payload, set_luks1_payload, split
from luks_kernel_images import crypt_segment, linear_segment, segmented
from luks_maker import CHEAP_PBKDF2, PASSPHRASE, SECTORS, run

XTS = "aes-xts-plain64"
OTHER = b"another passphrase"


def known_headers(maker):
    """Hashes and ciphers that neither cryptsetup here nor the Debian kernel has; header sizes and copies."""
    def made_here(name, cipher, bits, hash_name):
        image = maker.image(name, "Python")
        image.cipher, image.key = cipher, image.noise(bits // 8)
        image.passphrase()
        image.write("img", luks1_header(cipher, image.key, PASSPHRASE, hash_name, image.noise))
        image.encrypt()

    made_here("luks1-hash-stribog256", XTS, 512, "stribog256")
    made_here("luks1-hash-stribog512", "aes-cbc-essiv:sha256", 256, "stribog512")
    for cipher, bits in [("sm4-xts-plain64", 256), ("sm4-cbc-plain64", 128), ("sm4-ctr-plain64", 128), ("sm4-ecb", 128),
                         ("aria-ecb", 128), ("aria-cbc-essiv:sha256", 256), ("aria-ctr-plain64", 192),
                         ("camellia-cbc-essiv:sha256", 192), ("blowfish-cbc-essiv:sha256", 128)]:
        made_here(f"luks1-made-{cipher}-{bits}", cipher, bits, "sha256")
    for name in ["stribog512"]:
        image = maker.luks(f"luks2-hash-{name}", 2, XTS, 512)
        header = LUKS2(image.path)
        header.set_keyslot(0, PASSPHRASE, image.key, name, image.noise)
        header.set_digest(0, image.key, name, image.noise)
        header.write()
        image.encrypt()
    for cipher, bits in [("sm4-xts-plain64", 256), ("aria-cbc-plain64be", 256)]:
        image = maker.luks(f"luks2-made-{cipher}-{bits}", 2, XTS, bits)
        header = LUKS2(image.path)
        header.segments["0"]["encryption"] = image.cipher = cipher
        header.write()
        image.encrypt()

    # The kernel's own names for what is aes-xts-plain64 and aes-cbc-essiv:sha256.
    for name, cipher, capi, bits in [("xts", XTS, "capi:xts(ecb(aes-generic))-plain64", 512),
                                     ("cbc", "aes-cbc-essiv:sha256", "capi:cbc(aes)-essiv:sha256", 256)]:
        image = maker.luks(f"luks2-capi-{name}", 2, cipher, bits)
        header = LUKS2(image.path)
        header.segments["0"]["encryption"] = capi
        header.write()
        image.encrypt()

    hashes = ["sha1", "sha224", "sha256", "sha384", "sha512", "sha3-256", "sha3-512", "ripemd160", "whirlpool",
              "blake2b-512", "blake2s-256", "sm3"]
    for index, name in enumerate(hashes):
        version = 1 + index % 2
        image = maker.luks(f"luks{version}-hash-{name}", version, XTS, 512, "--hash", name, newline=index % 3 == 0)
        image.encrypt()
    for name in ("sha1", "sha512", "blake2s-256"):
        maker.luks(f"luks{2 if name == 'sha1' else 1}-hash-{name}-again", 2 if name == "sha1" else 1, XTS, 256, "--hash",
                   name).encrypt()

    for size in ("16k", "32k", "64k", "128k", "256k", "512k", "1m", "2m", "4m"):
        image = maker.luks(
            f"luks2-metadata-{size}", 2, XTS, 512, "--luks2-metadata-size", size, "--luks2-keyslots-size", "256k",
            small=False)
        image.encrypt()
        if size in ("16k", "128k", "1m", "4m"):
            image = maker.luks(
                f"luks2-only-second-header-{size}", 2, XTS, 512, "--luks2-metadata-size", size, "--luks2-keyslots-size",
                "256k", small=False)
            image.encrypt()
            # The first copy is gone altogether.
            with open(image.path, "r+b") as file:
                file.write(bytes(LUKS2(image.path).size))
    damage(maker, "luks2-first-json-damaged", 5000)
    damage(maker, "luks2-first-checksum-damaged", 460)
    damage(maker, "luks2-second-magic-damaged", 16384)
    newer_copy(maker, "luks2-second-is-newer", newer=1)
    newer_copy(maker, "luks2-first-is-newer", newer=0)

    image = maker.luks("luks2-label", 2, XTS, 512, "--label", "a label", "--subsystem", "a subsystem")
    image.encrypt()


def damage(maker, name, place):
    image = maker.luks(name, 2, XTS, 512)
    image.encrypt()
    with open(image.path, "r+b") as file:
        file.seek(place)
        byte = file.read(1)[0]
        file.seek(place)
        file.write(bytes([byte ^ 0x20]))


def newer_copy(maker, name, newer):
    """Both copies are valid; only the one with the higher sequence number has the tweak that the data needs."""
    image = maker.luks(name, 2, XTS, 512)
    header = LUKS2(image.path)
    header.segments["0"]["iv_tweak"] = "123"
    header.write(copies=[newer], sequence=20)
    header.segments["0"]["iv_tweak"] = "321"
    header.write(copies=[1 - newer], sequence=19)
    image.encrypt(first=123)


def known_keyslots(maker):
    for kind, parallel, memory in [("argon2i", 1, 32), ("argon2id", 1, 32), ("argon2id", 2, 64), ("argon2id", 4, 4096),
                                   ("argon2i", 4, 1024)]:
        maker.luks(
            f"luks2-{kind}-parallel-{parallel}", 2, XTS, 512, "--pbkdf", kind, "--pbkdf-force-iterations", "4",
            "--pbkdf-memory", memory, "--pbkdf-parallel", parallel).encrypt()
    for cipher, bits in [("aes-cbc-essiv:sha256", 128), ("aes-xts-plain64", 256), ("aes-ctr-plain64", 256),
                         ("aes-ecb", 192)]:
        maker.luks(
            f"luks2-keyslot-cipher-{cipher}-{bits}", 2, XTS, 512, "--keyslot-cipher", cipher, "--keyslot-key-size",
            bits).encrypt()
    maker.luks("luks2-cbc-keyslot-xts", 2, "aes-cbc-essiv:sha256", 192, "--keyslot-cipher", XTS, "--keyslot-key-size",
               512).encrypt()

    def with_second(name, version, *options, first_opens=False):
        """Two keyslots; the second has another passphrase, and is the one that is opened."""
        keyslots = [] if version == 1 else ["--luks2-metadata-size", "16k", "--luks2-keyslots-size", "1m"]
        image = maker.luks(name, version, XTS, 512, *keyslots, small=False)
        first, image.secrets = image.secrets, []
        new = image.passphrase(OTHER, "other", newline=True)
        run("cryptsetup", "luksAddKey", "--batch-mode", *CHEAP_PBKDF2, "--pbkdf", "pbkdf2", *options, "--key-file",
            image.file("key"), image.path, new)
        if first_opens:
            image.secrets = first
        image.encrypt()
        return image

    with_second("luks1-second-keyslot", 1)
    with_second("luks1-keyslot-7", 1, "--key-slot", "7")
    with_second("luks2-second-keyslot", 2)
    with_second("luks2-keyslot-31", 2, "--key-slot", "31")
    image = with_second("luks2-priority-prefer", 2)
    run("cryptsetup", "config", "--priority", "prefer", "--key-slot", "1", image.path)
    image = with_second("luks2-priority-ignore-other", 2)
    run("cryptsetup", "config", "--priority", "ignore", "--key-slot", "0", image.path)
    image = with_second("luks2-priority-ignore-named", 2)
    run("cryptsetup", "config", "--priority", "ignore", "--key-slot", "1", image.path)
    image.secrets += ["--key-slot", "1"]
    image = with_second("luks2-first-keyslot-killed", 2)
    run("cryptsetup", "luksKillSlot", "--batch-mode", "--key-file", image.file("other"), image.path, "0")
    image = with_second("luks1-first-keyslot-killed", 1)
    run("cryptsetup", "luksKillSlot", "--batch-mode", "--key-file", image.file("other"), image.path, "0")
    with_second("luks2-second-keyslot-argon2", 2, "--pbkdf", "argon2id", "--pbkdf-force-iterations", "4",
                "--pbkdf-memory", "32", "--pbkdf-parallel", "2")
    with_second("luks2-second-keyslot-other-cipher", 2, "--keyslot-cipher", "aes-cbc-plain64", "--keyslot-key-size", "128")
    with_second("luks2-unbound-keyslot", 2, "--unbound", "--key-size", "256", first_opens=True)

    def with_token(name, *options, **more):
        image = with_second(name, 2, **more)
        run("cryptsetup", "token", "add", *options, image.path)
        return image

    with_token("luks2-keyring-token", "--key-description", "nbdecrypt:test", "--key-slot", "1")
    with_token("luks2-token-without-keyslot", "--key-description", "nbdecrypt:test", "--unbound")
    image = with_second("luks2-unknown-token", 2)
    token = image.write("token.json", json.dumps(
        {"type": "example-token", "keyslots": ["1"], "anything": {"nested": [1, 2.5, None, True, "text"]}}).encode())
    run("cryptsetup", "token", "import", "--json-file", token, image.path)
    image = maker.luks("luks2-volume-key", 2, XTS, 512)
    image.encrypt()
    image.secrets = ["--volume-key-file", image.file("volume-key")]
    image = maker.luks("luks1-volume-key", 1, "aes-cbc-essiv:sha256", 256)
    image.encrypt()
    image.secrets = ["--volume-key-file", image.file("volume-key")]
    image = maker.luks("luks2-no-keyslot", 2, XTS, 512)
    run("cryptsetup", "luksErase", "--batch-mode", image.path)
    image.encrypt()
    image.secrets = ["--volume-key-file", image.file("volume-key")]


def known_containers(maker):
    """Where the data is, and how much of it."""
    for version, option, sectors in [(1, "--offset", 4096), (1, "--offset", 8192), (1, "--align-payload", 1),
                                     (1, "--align-payload", 24), (2, "--offset", 4096)]:
        maker.luks(f"luks{version}{option[1:]}-{sectors}", version, XTS, 256, option, sectors,
                   small=False).encrypt()
    maker.luks("luks2-align-payload", 2, XTS, 512, "--luks2-metadata-size", "16k", "--luks2-keyslots-size", "256k",
               "--align-payload", "8", small=False).encrypt()
    maker.luks("luks2-defaults", 2, XTS, 512, small=False).encrypt()
    for more in (1, 3, 7):
        # Old versions did not align the payload to pages.
        image = maker.luks(f"luks1-payload-plus-{more}", 1, XTS, 512)
        set_luks1_payload(image.path, luks1_payload(image.path) + more)
        image.encrypt()
    for version in (1, 2):
        for tail in (1, 511):
            maker.luks(f"luks{version}-tail-{tail}", version, XTS, 512).encrypt(tail=tail)
        maker.luks(f"luks{version}-one-sector", version, XTS, 512).encrypt(sectors=1)
        maker.luks(f"luks{version}-three-sectors", version, "aes-cbc-essiv:sha256", 256).encrypt(sectors=3, tail=100)
    image = maker.luks("luks2-sector-4096-one", 2, XTS, 512, sector_size=4096)
    image.encrypt(sectors=8)
    image = maker.luks("luks2-sector-2048-many", 2, XTS, 512, sector_size=2048)
    image.encrypt(sectors=2048)
    maker.luks("luks2-large", 2, XTS, 512).encrypt(sectors=20000)
    maker.luks("luks1-large", 1, "aes-cbc-essiv:sha256", 256).encrypt(sectors=20001)

    def detached(name, version, *options, sector_size=512, sectors=SECTORS, tail=0):
        image = maker.image(name, "Python")
        image.cipher, image.key, image.sector_size = XTS, image.noise(64), sector_size
        image.passphrase()
        image.write("header", b"")
        image.write("img", bytes(32 << 20))
        with open(image.file("header"), "r+b") as file:
            file.truncate(16 << 20)
        run("cryptsetup", "luksFormat", "--batch-mode", *maker.options(image, version, 512, options, small=False),
            "--volume-key-file", image.write("volume-key", image.key), "--key-file", image.file("key"), "--header",
            image.file("header"), image.path)
        if version == 1:
            offset = luks1_payload(image.file("header")) * 512
        else:
            offset = int(LUKS2(image.file("header")).segments["0"]["offset"])
        image.encrypt(offset=offset, sectors=sectors, tail=tail)
        image.secrets += ["--header", image.file("header")]

    detached("luks1-detached", 1)
    detached("luks1-detached-offset", 1, "--offset", "8192")
    detached("luks2-detached", 2)
    detached("luks2-detached-offset", 2, "--offset", "2048")
    detached("luks2-detached-sector-4096", 2, sector_size=4096)
    detached("luks2-detached-one-sector", 2, sectors=1, tail=77)

    for version in (1, 2):
        image = maker.luks(f"luks{version}-null-cipher", version, XTS, 256)
        if version == 2:
            header = LUKS2(image.path)
            header.segments["0"]["encryption"] = "cipher_null-ecb"
            header.write()
            image.plain = image.text(300 * 512)
            image.put(image.offset, image.plain)
        else:
            image.plain = image.text(300 * 512)
            image.write("img", luks1_null(image) + image.plain)
        image.secrets.append("--allow-null-cipher")


def refused_ciphers(maker):
    """Ciphers that dm-crypt has and the program has not: it says so before it asks for anything."""
    for name, cipher, bits in [("aria-xts", "aria-xts-plain64", 512), ("twofish-200", "twofish-xts-plain64", 400),
                               ("serpent-160", "serpent-cbc-essiv:sha1", 256), ("cast5-lrw", "cast5-lrw-benbi", 256),
                               ("adiantum", "xchacha12,aes-adiantum-plain64", 256), ("cast6", "cast6-xts-plain64", 512),
                               ("random-iv", "aes-cbc-random", 256)]:
        image = maker.luks(f"refused-{name}", 2, XTS, 512 if bits == 400 else bits)
        image.encrypt(sectors=8)
        header = LUKS2(image.path)
        header.segments["0"]["encryption"] = cipher
        if bits == 400:
            header.metadata["keyslots"]["0"]["key_size"] = 50
        header.write()


def luks1_null(image):
    """A header of the null cipher: the key material is not encrypted either."""
    header = bytearray(luks1_header(XTS, image.key, PASSPHRASE, "sha256", image.noise))
    header[8:72] = b"cipher_null".ljust(32, b"\0") + b"ecb".ljust(32, b"\0")
    # The area again, as it is without encryption.
    material = split("sha256", image.key, image.noise)
    header[4096:4096 + len(material)] = material
    return bytes(header)


def known_secrets(maker):
    """Passphrases of many kinds, and key files."""
    def make(name, version, secret, served):
        """Formats with `secret`, and gives the program the files that `served` says."""
        image = maker.image(name, "Python")
        image.cipher, image.key = XTS, image.noise(64)
        with open(image.path, "wb") as file:
            file.truncate(32 << 20)
        run("cryptsetup", "luksFormat", "--batch-mode", *maker.options(image, version, 512, []), "--volume-key-file",
            image.write("volume-key", image.key), "--key-file", image.write("key", secret), image.path)
        image.encrypt(sectors=200)
        image.secrets = [word if isinstance(word, str) else image.write(f"secret{index}", word)
                         for index, word in enumerate(served)]

    def random_bytes(count):
        return bytes((index * 167 + 13) % 256 for index in range(count))

    binary = random_bytes(4096)
    make("luks2-key-file", 2, binary, ["--key-file", binary])
    make("luks1-key-file", 1, binary, ["--key-file", binary])
    make("luks2-key-file-with-newline", 2, b"text\n", ["--key-file", b"text\n"])
    make("luks2-key-file-nul-first", 2, b"\0" + binary, ["--key-file", b"\0" + binary])
    make("luks1-key-file-offset", 1, binary, ["--key-file", b"x" * 777 + binary, "--key-file-offset", "777"])
    make("luks2-key-file-size", 2, binary[:64], ["--key-file", binary, "--key-file-size", "64"])
    make("luks2-key-file-offset-and-size", 2, binary[100:133],
         ["--key-file", binary, "--key-file-offset", "100", "--key-file-size", "33"])
    make("luks2-key-file-of-1-byte", 2, b"k", ["--key-file", b"k"])
    make("luks2-key-file-of-1-MiB", 2, random_bytes(1 << 20), ["--key-file", random_bytes(1 << 20)])
    make("luks2-third-secret", 2, PASSPHRASE,
         ["--passphrase-file", b"no", "--key-file", b"no either", "--passphrase-file", PASSPHRASE])
    make("luks1-two-key-files", 1, binary[8:24],
         ["--key-file", b"no", "--key-file-offset", "0", "--key-file-size", "2",
          "--key-file", binary, "--key-file-offset", "8", "--key-file-size", "16"])
    make("luks2-passphrase-of-512-bytes", 2, PASSPHRASE * 18 + b"12345678", ["--passphrase-file", PASSPHRASE * 18 + b"12345678\n"])
    make("luks1-passphrase-in-latin-1", 1, b"Stra\xdfe", ["--passphrase-file", b"Stra\xdfe\n"])
    make("luks2-passphrase-in-utf-8", 2, "Straße Ω".encode(), ["--passphrase-file", "Straße Ω\n".encode()])
    make("luks2-passphrase-with-spaces", 2, b"  two words ", ["--passphrase-file", b"  two words \n"])
    make("luks2-passphrase-longer-than-64-bytes", 2, b"p" * 65, ["--passphrase-file", b"p" * 65 + b"\n"])
    make("luks1-passphrase-longer-than-a-hash-block", 1, b"q" * 300, ["--passphrase-file", b"q" * 300 + b"\n"])


def known_segments(maker):
    """The tables of luks_kernel_images once more, with plaintext of our own and AES, and two keys."""
    sectors = 160
    size = sectors * 512

    def encrypt(image, pieces):
        """Each piece: offset, key and cipher or None, first sector, sector size."""
        image.plain, data = b"", b""
        for cipher, key, first, sector_size in pieces:
            plain = image.text(size)
            image.plain += plain
            data += SectorCipher(cipher, key, sector_size).encrypt(plain, first) if cipher else plain
        image.put(image.offset, data)

    image, _ = segmented(maker, "known-crypt-linear-crypt", lambda o: [
        crypt_segment(o, XTS, 0, sectors), linear_segment(o + size, sectors), crypt_segment(o + 2 * size, XTS, 99)],
        "Python")
    encrypt(image, [(XTS, image.key, 0, 512), (None, None, 0, 512), (XTS, image.key, 99, 512)])
    image, _ = segmented(maker, "known-far-tweaks", lambda o: [
        crypt_segment(o, XTS, (1 << 40) + 1, sectors), crypt_segment(o + size, "aes-xts-plain", (1 << 40) + 8, None, 4096)],
        "Python")
    encrypt(image, [(XTS, image.key, (1 << 40) + 1, 512), ("aes-xts-plain", image.key, (1 << 40) + 8, 4096)])

    # Two keys: a keyslot and a digest for each of two segments.
    image = maker.luks("known-two-keys", 2, XTS, 512, "--luks2-metadata-size", "16k", "--luks2-keyslots-size", "1m",
                       small=False)
    second = image.noise(32)
    new = image.passphrase(OTHER, "other")
    run("cryptsetup", "luksAddKey", "--batch-mode", *CHEAP_PBKDF2, "--pbkdf", "pbkdf2", "--unbound", "--key-size", "256",
        "--volume-key-file", image.write("second-volume-key", second), "--key-file", image.file("key"), image.path, new)
    header = LUKS2(image.path)
    offset = int(header.segments["0"]["offset"])
    header.metadata["segments"] = {
        "0": crypt_segment(offset, XTS, 0, sectors),
        "1": crypt_segment(offset + size, "aes-cbc-essiv:sha256", 3)}
    header.metadata["digests"]["0"]["segments"] = ["0"]
    header.metadata["digests"]["1"]["segments"] = ["1"]
    header.write()
    encrypt(image, [(XTS, image.key, 0, 512), ("aes-cbc-essiv:sha256", second, 3, 512)])

    # Nothing is encrypted: no secret is needed, but one does not hurt; the option that allows it is.
    image, header = segmented(maker, "known-linear", lambda o: [linear_segment(o)], "Python")
    encrypt(image, [(None, None, 0, 512)])
