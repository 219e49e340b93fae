#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
#
# QEMU 11.1.3 (Debian sid): the metadata of an encrypted qcow2 image is not encrypted, but `qemu-img check`, `snapshot -l`,
# `bitmap` and `rebase -u` refuse an image that is named as a file ("Parameter 'encrypt.key-secret' is required for cipher");
# `info` does not. They work with the secret, which then has to be given with --image-opts.
#
# Needs root and debootstrap.
set -euo pipefail
root=$(mktemp -d)
trap 'umount "$root/proc" "$root/dev" 2>/dev/null || true; rm -rf --one-file-system "$root"' EXIT
# shellcheck disable=SC2016
site=$(apt-get indextargets --format '$(SITE)' 2>/dev/null | head -n 1)
debootstrap --variant=minbase --include=qemu-utils sid "$root" ${site:+"$site"} >"$root.log" 2>&1 ||
    { tail -n 3 "$root.log"; exit 2; }
rm -f "$root.log"
mount --bind /proc "$root/proc"
mount --bind /dev "$root/dev"
# shellcheck disable=SC2016
found=$(chroot "$root" dpkg-query -W -f '${Version}' qemu-utils)
echo "qemu-utils $found"
[ "$found" = "1:11.1.3+ds-1" ] || { echo "another version than that which was looked at"; exit 1; }

chroot "$root" /bin/bash -euo pipefail <<'INSIDE'
cd /tmp
printf 'correct horse' >secret
object='--object secret,id=s,file=secret'
for format in aes luks; do
    qemu-img create -q -f qcow2 $object -o "encrypt.format=$format,encrypt.key-secret=s" disk 4M
    opts="--image-opts driver=qcow2,file.filename=disk,encrypt.key-secret=s"
    qemu-img info disk >/dev/null
    for command in 'check' 'snapshot -l' 'bitmap --add' 'rebase -u -b ""'; do
        operand=$([ "$command" = 'bitmap --add' ] && echo b || true)
        if said=$(eval "qemu-img $command disk $operand" 2>&1); then
            echo "works after all: qemu-img $command"; exit 1
        fi
        [[ $said == *"Parameter 'encrypt.key-secret' is required for cipher"* ]]
        eval "qemu-img $command $object $opts $operand" >/dev/null
        echo "$format, qemu-img $command: refused without the secret, done with it"
    done
done
INSIDE
echo "as it was found"
