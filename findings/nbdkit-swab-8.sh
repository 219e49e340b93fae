#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
#
# nbdkit 1.48.1 (Debian sid): the swab filter's manual says of swab-bits=8 that it turns the filter off. Reads do pass as they are,
# but in place of what a client writes zeros come to the disk below, without an error: both it and what was there are lost.
#
# Needs root and debootstrap.
set -euo pipefail
root=$(mktemp -d)
trap 'umount "$root/proc" "$root/dev" 2>/dev/null || true; rm -rf --one-file-system "$root"' EXIT
# shellcheck disable=SC2016
site=$(apt-get indextargets --format '$(SITE)' 2>/dev/null | head -n 1)
debootstrap --variant=minbase --include=nbdkit,libnbd-bin,python3-libnbd sid "$root" ${site:+"$site"} >"$root.log" 2>&1 ||
    { tail -n 3 "$root.log"; exit 2; }
rm -f "$root.log"
mount --bind /proc "$root/proc"
mount --bind /dev "$root/dev"
# shellcheck disable=SC2016
found=$(chroot "$root" dpkg-query -W -f '${Package} ${Version}\n' libnbd-bin nbdkit)
echo "$found"
[ "$found" = "libnbd-bin 1.24.4-1
nbdkit 1.48.1-1" ] || { echo "other versions than those that were looked at"; exit 1; }

chroot "$root" /bin/bash -euo pipefail <<'INSIDE'
cd /tmp
head -c 1M /dev/urandom >before
head -c 64K /dev/urandom >written
for bits in 8 16; do
    cp before disk
    # shellcheck disable=SC2016
    nbdkit -U - --filter=swab file disk "swab-bits=$bits" --run '
        nbdcopy "$uri" read
        nbdsh -u "$uri" -c "h.pwrite(open(\"written\", \"rb\").read(), 131072)" -c "h.flush()" \
            -c "open(\"back\", \"wb\").write(h.pread(65536, 131072))"'
    cmp -s before read && passed=yes || passed=swapped
    cmp -s written back && back=yes || back=no
    stored=$(dd if=disk bs=64K skip=2 count=1 status=none | tr -d '\0' | wc -c)
    [ "$stored" = 0 ] && file=zeros || file=data
    echo "swab-bits=$bits: read as it is: $passed; read back as written: $back; in the file there are $file"
    if [ "$bits" = 8 ]; then
        [ "$passed $back $file" = "yes no zeros" ]
    else
        [ "$passed $back $file" = "swapped yes data" ]
    fi
done
INSIDE
echo "as it was found"
