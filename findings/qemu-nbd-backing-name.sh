#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
#
# QEMU 11.1.3 (Debian sid), and 7.2 as well: the backing file of a qcow2 overlay cannot be taken from an NBD server in the
# options of the overlay (backing.driver=nbd or a raw layer over it) while its header names a backing file, even one that is
# gone: "Option 'server.path' cannot be used with a file name". A local file in the same place is taken. It works once `qemu-img
# rebase -u -b ''` has taken the name out of (a copy of) the overlay, or with qemu-storage-daemon and a node of its own for the
# backing file.
#
# Needs root and debootstrap.
set -euo pipefail
root=$(mktemp -d)
trap 'umount "$root/proc" "$root/dev" 2>/dev/null || true; rm -rf --one-file-system "$root"' EXIT
# shellcheck disable=SC2016
site=$(apt-get indextargets --format '$(SITE)' 2>/dev/null | head -n 1)
debootstrap --variant=minbase --include=qemu-utils,qemu-system-common,libnbd-bin sid "$root" ${site:+"$site"} >"$root.log" 2>&1 ||
    { tail -n 3 "$root.log"; exit 2; }
rm -f "$root.log"
mount --bind /proc "$root/proc"
mount --bind /dev "$root/dev"
# shellcheck disable=SC2016
found=$(chroot "$root" dpkg-query -W -f '${Package} ${Version}\n' libnbd-bin qemu-system-common qemu-utils)
echo "$found"
[ "$found" = "libnbd-bin 1.24.4-1
qemu-system-common 1:11.1.3+ds-1
qemu-utils 1:11.1.3+ds-1" ] || { echo "other versions than those that were looked at"; exit 1; }

chroot "$root" /bin/bash -euo pipefail <<'INSIDE'
cd /tmp
head -c 4M /dev/urandom >moved
truncate -s 4M base
qemu-img create -q -f qcow2 -b base -F raw overlay
rm base
cp overlay nameless
qemu-img rebase -u -f qcow2 -b '' nameless
qemu-nbd -r -t --fork -k /tmp/socket --pid-file=pid -f raw moved
trap 'kill "$(cat pid)"' EXIT
nbd='"driver": "nbd", "server": {"type": "unix", "path": "/tmp/socket"}'
file='"driver": "file", "filename": "moved"'
convert() { # OVERLAY BACKING
    rm -f out
    overlay="\"driver\": \"qcow2\", \"file\": {\"driver\": \"file\", \"filename\": \"$1\"}"
    said=$(qemu-img convert -O raw "json:{$overlay, \"backing\": {$2}}" out 2>&1) || return 1
    cmp out moved
}
for backing in "$nbd" "\"driver\": \"raw\", \"file\": {$nbd}"; do
    if convert overlay "$backing"; then echo "taken from NBD"; exit 1; fi
    echo "a name in the header: ${said##*: }"
    [[ $said == *"Option 'server.path' cannot be used with a file name" ]]
    convert nameless "$backing"
    echo "no name in the header: the disk is right"
done
convert overlay "\"driver\": \"raw\", \"file\": {$file}"
echo "a name in the header, from a file: the disk is right"

qemu-storage-daemon --daemonize --pidfile daemon \
    --blockdev driver=nbd,server.type=unix,server.path=/tmp/socket,read-only=on,node-name=base \
    --blockdev driver=file,filename=/tmp/overlay,read-only=on,node-name=file \
    --blockdev driver=qcow2,read-only=on,file=file,backing=base,node-name=disk \
    --nbd-server addr.type=unix,addr.path=/tmp/served --export nbd,id=e,node-name=disk,name=disk
nbdcopy 'nbd+unix:///disk?socket=/tmp/served' out
kill "$(cat daemon)"
cmp out moved
echo "a name in the header, a node for the backing file: the disk is right"
INSIDE
echo "as it was found"
