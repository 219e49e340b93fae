#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
#
# QEMU 11.1.3 (Debian sid), and 7.2 as well: `qemu-img convert -c -O qcow`, one of the two formats that the manual says can be
# compressed, ends with status 1 and without a word, always. The image that it leaves is whole, compressed and the same as the
# source. Without -c, or to qcow2, the status is 0. A script that looks at the status throws a good image away.
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
found=$(chroot "$root" dpkg-query -W -f '${Package} ${Version}\n' qemu-utils)
echo "$found"
[ "$found" = "qemu-utils 1:11.1.3+ds-1" ] || { echo "other versions than those that were looked at"; exit 1; }

chroot "$root" /bin/bash -euo pipefail <<'INSIDE'
cd /tmp
yes 'the quick brown fox' | head -c 6M >text || true
head -c 6M /dev/urandom >random
truncate -s 6M empty
for source in text random empty; do
    for options in '-c -O qcow' '-O qcow' '-c -O qcow2'; do
        rm -f image
        status=0
        # shellcheck disable=SC2086
        said=$(qemu-img convert -f raw $options "$source" image 2>&1) || status=$?
        # shellcheck disable=SC2086
        qemu-img compare -q -f raw -F "${options##* }" "$source" image && same=yes || same=no
        echo "$source, convert $options: status $status, said '$said', the same: $same, $(stat -c %s image) bytes"
        [ "$said$same" = yes ]
        if [ "$options" = '-c -O qcow' ]; then [ "$status" = 1 ]; else [ "$status" = 0 ]; fi
    done
done
INSIDE
echo "as it was found"
