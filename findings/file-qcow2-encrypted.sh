#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
#
# file 5.47 (Debian sid), and 5.44 as well: it calls a qcow2 image whose L1 table has one entry "AES-encrypted" though nothing in it
# is, which with clusters of 64 KiB is each disk of up to 512 MiB: it takes the number of entries for the field that tells of
# encryption in the older qcow format. Of LUKS inside it says nothing: such an image looks like a plain one, small or large.
#
# Needs root and debootstrap.
set -euo pipefail
root=$(mktemp -d)
trap 'umount "$root/proc" "$root/dev" 2>/dev/null || true; rm -rf --one-file-system "$root"' EXIT
# shellcheck disable=SC2016
site=$(apt-get indextargets --format '$(SITE)' 2>/dev/null | head -n 1)
debootstrap --variant=minbase --include=file,qemu-utils sid "$root" ${site:+"$site"} >"$root.log" 2>&1 ||
    { tail -n 3 "$root.log"; exit 2; }
rm -f "$root.log"
mount --bind /proc "$root/proc"
mount --bind /dev "$root/dev"
# shellcheck disable=SC2016
found=$(chroot "$root" dpkg-query -W -f '${Package} ${Version}\n' file qemu-utils)
echo "$found"
[ "$found" = "file 1:5.47-4
qemu-utils 1:11.1.3+ds-1" ] || { echo "other versions than those that were looked at"; exit 1; }

chroot "$root" /bin/bash -euo pipefail <<'INSIDE'
cd /tmp
printf 'correct horse' >secret
secret=(--object 'secret,id=s,file=secret')
for size in 64K 512M 513M 4G; do
    for format in plain aes luks; do
        options=()
        [ "$format" = plain ] || options=(-o "encrypt.format=$format,encrypt.key-secret=s")
        [ "$format" != luks ] || options[1]+=,encrypt.iter-time=10
        qemu-img create -q -f qcow2 "${secret[@]}" "${options[@]}" disk "$size"
        said=$(file -b disk)
        echo "qcow2, $size, $format: $said"
        case $format,$size in
        aes,* | *,64K | *,512M) [[ $said == *AES-encrypted* ]] ;;
        *) [[ $said != *ncrypted* ]] ;;
        esac
        [ "$format" != plain ] || plain=$said
        [ "$format" != luks ] || [ "$said" = "$plain" ]
    done
    qemu-img create -q -f qcow old "$size"
    said=$(file -b old)
    echo "qcow, $size: $said"
    [[ $said != *ncrypted* ]]
    qemu-img create -q -f qcow "${secret[@]}" -o encrypt.format=aes,encrypt.key-secret=s old "$size"
    [[ $(file -b old) == *AES-encrypted* ]]
done
INSIDE
echo "as it was found"
