# SPDX-License-Identifier: Apache-2.0
"""LUKS1 by qemu-img, on its own and inside qcow2, and LUKS containers that are the guest disk of a qcow2 image."""
import itertools
import os

from luks_maker import run

# qemu-img measures the processor to choose the cost of a key, and fails when that goes wrong on a busy machine.
ATTEMPTS = 200


def convert(image, driver, source=None, compressed=False, target=None):
    """Copies a raw file into an encrypted image, or the image into a raw file."""
    opened = f"driver={driver},file.filename={image.path},"
    opened += "key-secret=s" if driver == "luks" else "encrypt.format=luks,encrypt.key-secret=s"
    secret = ["--object", f"secret,id=s,file={image.file('key')}"]
    if source:
        run("qemu-img", "convert", "-n", *(["-c"] if compressed else []), "-f", "raw", *secret, "--target-image-opts",
            source, opened)
    else:
        run("qemu-img", "convert", *secret, "--image-opts", opened, "-O", "raw", target)


def create(image, driver, size, options):
    prefix = "" if driver == "luks" else "encrypt."
    words = [f"{prefix}key-secret=s", f"{prefix}iter-time=10"] + options
    if driver == "qcow2":
        words.append("encrypt.format=luks")
    run("qemu-img", "create", "-q", "--object", f"secret,id=s,file={image.passphrase()}", "-f", driver, "-o",
        ",".join(words), image.path, size, attempts=ATTEMPTS)


def read_oracle(image, driver):
    """What qemu-img reads."""
    convert(image, driver, target=image.file("oracle"))
    with open(image.file("oracle"), "rb") as file:
        image.plain = file.read()
    os.remove(image.file("oracle"))


def luks_options(prefix, algorithm, mode, ivgen, iv_hash, hash_name):
    result = [f"{prefix}cipher-alg={algorithm}", f"{prefix}cipher-mode={mode}", f"{prefix}hash-alg={hash_name}"]
    if ivgen:
        result.append(f"{prefix}ivgen-alg={ivgen}")
    if iv_hash:
        result.append(f"{prefix}ivgen-hash-alg={iv_hash}")
    return result


def qemu_raw(maker):
    for algorithm, mode, ivgen, iv_hash, hash_name in [
        ("aes-256", "xts", "plain64", None, "sha256"), ("aes-128", "xts", "plain64", None, "sha1"),
        ("aes-128", "xts", "plain", None, "sha512"), ("aes-256", "cbc", "essiv", "sha256", "sha256"),
        ("aes-128", "cbc", "essiv", "sha256", "sha384"),
        ("aes-256", "cbc", "plain", None, "ripemd160"), ("aes-256", "ctr", "plain64", None, "sha256"),
        ("aes-256", "ecb", "plain64", None, "sha256"),
        ("serpent-256", "xts", "plain64", None, "sha256"), ("serpent-128", "cbc", "plain64", None, "sha512"),
        ("serpent-256", "cbc", "essiv", "sha256", "sha256"), ("twofish-256", "xts", "plain64", None, "sha1"),
        ("twofish-128", "cbc", "plain", None, "sha256"), ("twofish-256", "cbc", "essiv", "sha256", "sha256"),
        ("cast5-128", "cbc", "plain64", None, "sha224"),
        ("cast5-128", "ecb", "plain64", None, "sha256"),
        # Not in cbc, ctr or ecb: with 24-byte keys, QEMU fails.
        ("aes-192", "xts", "plain64", None, "sha256"), ("serpent-192", "xts", "plain64", None, "sha256"),
        ("twofish-192", "xts", "plain64", None, "sha256"),
    ]:
        name = f"qemu-{algorithm}-{mode}-{ivgen}{'-' + iv_hash if iv_hash else ''}-{hash_name}"
        options = luks_options("", algorithm, mode, ivgen, iv_hash, hash_name)
        maker.later(make_raw, maker.image(name, "qemu-img"), 509 * 1024, options)


    for mode, ivgen, specification in [
        ("xts", "plain64", "xts-plain64:sha256"), ("xts", "plain", "xts-plain:sha1"), ("cbc", "plain", "cbc-plain:sha256")]:
        maker.later(make_option, maker.image(f"qemu-option-{specification}", "qemu-img"), "luks", f"{mode}-{ivgen}",
                    specification)


def make_option(image, driver, mode, specification):
    """An image whose vector has an option that it does not use, which QEMU reads as one without."""
    if driver == "luks":
        make_raw(image, 509 * 1024, luks_options("", "aes-256", *mode.split("-"), None, "sha256"))
    else:
        make_qcow2(image, luks_options("encrypt.", "aes-256", *mode.split("-"), None, "sha256"), False)
    with open(image.path, "r+b") as file:
        # The header of LUKS1 has 32 bytes for it.
        place = file.read(1 << 20).index(mode.encode().ljust(32, b"\0"))
        file.seek(place)
        file.write(specification.encode())
    read_oracle(image, driver)


def make_raw(image, size, options):
    create(image, "luks", size, options)
    convert(image, "luks", source=image.write("source", image.text(size)))
    read_oracle(image, "luks")


def make_qcow2(image, options, compressed):
    """Plaintext in three quarters of the disk, some of it compressed, some of it written over."""
    size = 3 * 65536 * 16 + 5 * 512
    create(image, "qcow2", size, options)
    used = size * 3 // 4 // 512 * 512
    text = (b"text that deflates well\n" * (used // 24 + 1))[:used] if compressed else image.text(used)
    source = image.write("source", text)
    # With the size of the disk; what was not written stays unallocated.
    os.truncate(source, size)
    # With compression, QEMU writes to clusters that are not there yet only, and does not encrypt them.
    convert(image, "qcow2", source=source, compressed=compressed)
    if compressed:
        noise = image.write("over", image.noise(40960))
        commands = [f"write -s {noise} {place} 40960" for place in (0, size // 2 // 512 * 512)]
        opened = f"driver=qcow2,file.filename={image.path},encrypt.format=luks,encrypt.key-secret=s"
        run("qemu-io", "--object", f"secret,id=s,file={image.file('key')}", "--image-opts", opened,
            *[word for command in commands + ["write -z 131072 65536"] for word in ("-c", command)])
    read_oracle(image, "qcow2")


def make_second_keyslot(image, options, compressed):
    """A second keyslot, and the first one erased."""
    make_qcow2(image, options, compressed)
    first, image.secrets = image.file("key"), []
    image.passphrase(b"another passphrase", "other", newline=True)
    opened = f"driver=qcow2,file.filename={image.path},encrypt.format=luks,encrypt.key-secret="
    secrets = ["--object", f"secret,id=s,file={first}", "--object", f"secret,id=n,file={image.file('other')}"]
    run("qemu-img", "amend", *secrets, "--image-opts", opened + "s", "-o",
        "encrypt.state=active,encrypt.new-secret=n,encrypt.iter-time=10", attempts=ATTEMPTS)
    run("qemu-img", "amend", *secrets, "--image-opts", opened + "n", "-o",
        "encrypt.state=inactive,encrypt.old-secret=s")


def qemu_qcow2(maker):
    def make(name, options, compressed=False, function=None):
        maker.later(function or make_qcow2, maker.image(f"qcow2-{name}", "qemu-img"), options, compressed)

    default = luks_options("encrypt.", "aes-256", "xts", "plain64", None, "sha256")
    for bits in (12, 16):
        make(f"cluster-{1 << bits}", default + [f"cluster_size={1 << bits}"])
    for bits in (9, 12, 16, 21):
        make(f"compressed-cluster-{1 << bits}", default + [f"cluster_size={1 << bits}"], compressed=True)
    make("compressed-zstd", default + ["compression_type=zstd"], compressed=True)
    for mode in ("metadata", "falloc", "full"):
        make(f"preallocation-{mode}", default + [f"preallocation={mode}"])
    make("compat-0.10", default + ["compat=0.10"])
    for algorithm, mode, ivgen, iv_hash, hash_name in [
        ("aes-128", "xts", "plain64", None, "sha1"), ("aes-256", "cbc", "essiv", "sha256", "sha512"),
        ("aes-256", "cbc", "plain", None, "sha256"), ("aes-128", "ctr", "plain64", None, "sha256"),
        ("aes-256", "ecb", "plain64", None, "sha384"), ("serpent-256", "xts", "plain64", None, "sha256"),
        ("twofish-256", "xts", "plain", None, "sha224"), ("cast5-128", "cbc", "plain64", None, "ripemd160"),
        ("serpent-128", "cbc", "essiv", "sha256", "sha256"),
    ]:
        make(f"{algorithm}-{mode}-{ivgen}-{hash_name}", luks_options("encrypt.", algorithm, mode, ivgen, iv_hash, hash_name))
    make("second-keyslot", default, function=make_second_keyslot)
    maker.later(make_option, maker.image("qcow2-option-xts-plain64:sha256", "qemu-img"), "qcow2", "xts-plain64",
                "xts-plain64:sha256")


def nested_images(maker):
    """The LUKS container is the guest disk; the program sees it with -f left out, whatever the qcow2 image itself is."""
    for version, outer in itertools.product((1, 2), ("plain", "compressed", "aes", "luks")):
        image = maker.luks(f"luks{version}-in-qcow2-{outer}", version, "aes-xts-plain64", 512)
        image.encrypt()
        maker.later(wrap, image, outer)


def wrap(image, outer):
    """Puts a container into a qcow2 image of another kind of encryption."""
    container, image.path = image.path, image.file("qcow2")
    if outer in ("plain", "compressed"):
        run("qemu-img", "convert", "-f", "raw", "-O", "qcow2", *(["-c"] if outer == "compressed" else []), container,
            image.path)
    else:
        inner, image.secrets = image.secrets, []
        secret = ["--object", f"secret,id=s,file={image.passphrase(b'outer passphrase', 'outer')}"]
        options = f"encrypt.format={outer},encrypt.key-secret=s"
        run("qemu-img", "create", "-q", *secret, "-f", "qcow2", "-o",
            options + (",encrypt.iter-time=10" if outer == "luks" else ""), image.path, os.path.getsize(container),
            attempts=ATTEMPTS)
        run("qemu-img", "convert", "-n", "-f", "raw", *secret, "--target-image-opts", container,
            f"driver=qcow2,file.filename={image.path},{options}")
        image.secrets += inner
    os.remove(container)
