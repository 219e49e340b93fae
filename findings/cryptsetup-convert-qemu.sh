#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
#
# cryptsetup 2.8.8 and QEMU 11.1.3 (Debian sid): `cryptsetup convert --type luks2` refuses every LUKS1 container that qemu-img
# makes ("Cannot convert to LUKS2 format - invalid metadata."), whatever the cipher, and leaves it as it was. One of the same
# cipher that cryptsetup made is converted. QEMU lets the data begin where the last keyslot ends; cryptsetup rounds that up
# to 1 MiB, and LUKS2 needs 28 KiB of it for a header that is larger.
#
# Needs root and debootstrap.
set -euo pipefail
root=$(mktemp -d)
trap 'umount "$root/proc" "$root/dev" 2>/dev/null || true; rm -rf --one-file-system "$root"' EXIT
# shellcheck disable=SC2016
site=$(apt-get indextargets --format '$(SITE)' 2>/dev/null | head -n 1)
debootstrap --variant=minbase --include=qemu-utils,cryptsetup-bin sid "$root" ${site:+"$site"} >"$root.log" 2>&1 ||
    { tail -n 3 "$root.log"; exit 2; }
rm -f "$root.log"
mount --bind /proc "$root/proc"
mount --bind /dev "$root/dev"
# shellcheck disable=SC2016
found=$(chroot "$root" dpkg-query -W -f '${Package} ${Version}\n' qemu-utils cryptsetup-bin)
echo "$found"
[ "$found" = "cryptsetup-bin 2:2.8.8-1
qemu-utils 1:11.1.3+ds-1" ] || { echo "other versions than those that were looked at"; exit 1; }

chroot "$root" /bin/bash -euo pipefail <<'INSIDE'
cd /tmp
printf 'correct horse' >secret
for options in '' cipher-alg=aes-128 cipher-mode=cbc,ivgen-alg=essiv,ivgen-hash-alg=sha256 hash-alg=sha512; do
    qemu-img create -q -f luks --object secret,id=s,file=secret -o "key-secret=s,iter-time=10${options:+,$options}" qemu 4M
    cp qemu before
    if said=$(cryptsetup convert -q --type luks2 qemu 2>&1); then
        echo "converted after all: ${options:-no options}"; exit 1
    fi
    cmp qemu before
    echo "made by QEMU, ${options:-no options}: $said"
    [ "$said" = 'Cannot convert to LUKS2 format - invalid metadata.' ]
    cryptsetup open --test-passphrase --key-file secret qemu
done
truncate -s 8M own
cryptsetup luksFormat -q --type luks1 --cipher aes-xts-plain64 --key-size 512 --pbkdf-force-iterations 1000 own secret
# Without device-mapper it ends with another message, behind that check.
said=$(cryptsetup convert -q --type luks2 own 2>&1 || true)
echo "made by cryptsetup: ${said:-converted}"
[[ $said != *'invalid metadata'* ]]
INSIDE
echo "as it was found"
