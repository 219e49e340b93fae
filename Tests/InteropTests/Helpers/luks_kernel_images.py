# SPDX-License-Identifier: Apache-2.0
"""LUKS2 images with several segments or far sector numbers, opened by tables of dm targets that are written here.

`cryptsetup open` looks at one segment only, and not at its iv_tweak or size; the on-disk specification gives all of them a
meaning, and a table with a line for each segment is what that comes to.
"""
from luks_headers import LUKS2

SECTORS = 160


def crypt_segment(offset, cipher, tweak=0, sectors=None, sector_size=512):
    return {
        "type": "crypt", "offset": str(offset), "size": str(sectors * 512) if sectors else "dynamic",
        "iv_tweak": str(tweak), "encryption": cipher, "sector_size": sector_size}


def linear_segment(offset, sectors=None):
    return {"type": "linear", "offset": str(offset), "size": str(sectors * 512) if sectors else "dynamic"}


def segmented(maker, name, segments, oracle, cipher="aes-xts-plain64", bits=512):
    """`segments` gets the offset of the data area; all of them have one key."""
    image = maker.luks(name, 2, cipher, bits, oracle=oracle)
    header = LUKS2(image.path)
    offset = int(header.segments["0"]["offset"])
    header.metadata["segments"] = {str(index): segment for index, segment in enumerate(segments(offset))}
    for digest in header.metadata["digests"].values():
        digest["segments"] = [number for number, segment in header.segments.items() if segment["type"] == "crypt"]
    header.write()
    if any(segment["type"] == "linear" for segment in header.segments.values()):
        image.secrets.append("--allow-linear-segments")
    return image, header


def kernel_segments(maker):
    def make(name, segments, **options):
        image, header = segmented(maker, name, segments, "dm-crypt", **options)
        start, lines = 0, []
        total = 3 * SECTORS
        image.put(int(header.segments["0"]["offset"]), image.noise(total * 512))
        first = int(header.segments["0"]["offset"]) // 512
        for segment in header.segments.values():
            offset = int(segment["offset"]) // 512
            count = total - (offset - first) if segment["size"] == "dynamic" else int(segment["size"]) // 512
            line = f"{start} {count} linear LOOP {offset}"
            if segment["type"] == "crypt":
                line = (f"{start} {count} crypt {segment['encryption']} {image.key.hex()} {segment['iv_tweak']} LOOP "
                        f"{offset}")
                if segment["sector_size"] != 512:
                    line += f" 1 sector_size:{segment['sector_size']}"
            lines.append(line)
            start += count
        maker.table(image, lines)

    third, xts = SECTORS * 512, "aes-xts-plain64"
    make("crypt-linear", lambda o: [crypt_segment(o, xts, 0, SECTORS), linear_segment(o + third)])
    make("linear-crypt", lambda o: [linear_segment(o, SECTORS), crypt_segment(o + third, xts, SECTORS)])
    make("crypt-linear-crypt", lambda o: [
        crypt_segment(o, xts, 0, SECTORS), linear_segment(o + third, SECTORS), crypt_segment(o + 2 * third, xts, 5)])
    make("two-crypt-tweaks", lambda o: [crypt_segment(o, xts, 1 << 20, SECTORS), crypt_segment(o + third, xts, 7)])
    make("two-ciphers", lambda o: [
        crypt_segment(o, "serpent-xts-plain64", 0, SECTORS), crypt_segment(o + third, "twofish-xts-plain64", SECTORS)])
    make("two-sector-sizes", lambda o: [
        crypt_segment(o, xts, 0, SECTORS, 4096), crypt_segment(o + third, xts, SECTORS, None, 1024)])
    make("fixed-size", lambda o: [crypt_segment(o, xts, 0, SECTORS)])
    make("fixed-size-not-contiguous", lambda o: [
        crypt_segment(o, xts, 0, SECTORS), crypt_segment(o + 2 * third, xts, 2 * SECTORS, SECTORS - 8)])
    # Where 32 bits end: plain forgets the rest, plain64 does not.
    far = (1 << 32) - 80
    for cipher, bits in [("aes-xts-plain", 512), ("aes-xts-plain64", 512), ("aes-cbc-plain", 256),
                         ("aes-cbc-essiv:sha256", 256), ("aes-cbc-benbi", 256), ("aes-cbc-plain64be", 256),
                         ("aes-cbc-eboiv", 256), ("serpent-cbc-plain", 256)]:
        make(f"tweak-{cipher}", lambda o, cipher=cipher: [crypt_segment(o, cipher, far)],
             cipher="aes-xts-plain64", bits=bits)
    make("tweak-sector-4096", lambda o: [crypt_segment(o, xts, (1 << 32) - 8, None, 4096)])
    # What dm-crypt opens and `cryptsetup open` does not.
    for cipher in ("aes-lrw-eboiv", "aes-ecb-eboiv"):
        make(f"vector-{cipher}", lambda o, cipher=cipher: [crypt_segment(o, cipher, 5)], bits=256)
