#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""Makes LUKS images, their plaintext, and a manifest.

    luks_images.py DIRECTORY GROUP...   make the images of these groups in DIRECTORY, which is emptied
    luks_images.py                      print the groups

What is made must be what luks_images.txt lists, from which the tests take the names of their cases.
Groups whose name begins with "kernel" need the virtual machine of scripts/vm; all that are asked for share a boot.
"""
import sys

from luks_maker import Failed, Maker
from luks_matrix import GROUPS, listed


def main():
    if len(sys.argv) < 3:
        print("\n".join(GROUPS))
        return 0
    maker = Maker(sys.argv[1])
    for name in sys.argv[2:]:
        maker.begin(name)
        GROUPS[name](maker)
    made = [(image.group, image.name) for image in maker.images]
    different = sorted(set(made) ^ set(listed(sys.argv[2:])))
    if different or len(made) != len(set(made)):
        raise Failed(f"luks_images.txt does not list what is made: {different}")
    maker.finish()
    return 0


if __name__ == "__main__":
    sys.exit(main())
