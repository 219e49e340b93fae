#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
#
# Mounts a file system of an encrypted image read-only through the kernel's NBD client, runs a command in it, detaches.
#
#   sudo examples/attach-with-nbd-client.sh IMAGE PASSPHRASE-FILE [COMMAND [ARGUMENT]...]
#
# COMMAND is run in the mounted directory (default: a shell). PARTITION=N chooses a partition (default: the first, or
# the whole disk when it has none). NBDECRYPT names the program (default: the one on PATH, else the release build).
set -eu

die() {
    echo "attach-with-nbd-client: $*" >&2
    exit 1
}

[ $# -ge 2 ] || die "usage: $0 IMAGE PASSPHRASE-FILE [COMMAND [ARGUMENT]...]"
[ "$(id -u)" = 0 ] || die "only root can attach and mount: use sudo."
image=$1 passphrase_file=$2
nbdecrypt=${NBDECRYPT:-$(command -v nbdecrypt || echo "$(dirname "$0")/../.build/release/nbdecrypt")}
shift 2
[ $# -gt 0 ] || set -- "${SHELL:-/bin/sh}"
PATH=$PATH:/usr/sbin:/sbin

work=$(mktemp -d)
server='' device='' mounted=false
cleanup() {
    cd /
    if $mounted; then umount "$work/disk"; fi
    if [ -n "$device" ]; then nbd-client -d "/dev/$device" > /dev/null; fi
    if [ -n "$server" ] && kill "$server" 2> /dev/null; then wait "$server" || true; fi
    rm -rf "$work"
}
trap cleanup EXIT
trap 'exit 130' INT TERM HUP

"$nbdecrypt" serve "$image" --passphrase-file "$passphrase_file" \
    --socket "$work/nbd.sock" --pid-file "$work/pid" > /dev/null &
server=$!
until [ -s "$work/pid" ]; do
    kill -0 "$server" 2> /dev/null || { wait "$server"; die "nbdecrypt has ended."; }
    sleep 0.1
done

modprobe nbd
for path in /sys/block/nbd*; do
    # A device that is in use has the process id of its client.
    if [ ! -e "$path/pid" ]; then
        device=${path##*/}
        break
    fi
done
[ -n "$device" ] || die "all devices /dev/nbd* are in use."
nbd-client -unix "$work/nbd.sock" "/dev/$device" -readonly > /dev/null || {
    device=''
    die "nbd-client could not attach the disk."
}

disk=/dev/$device
partition=${disk}p${PARTITION:-1}
# The kernel looks for partitions when somebody opens the device, and needs a moment.
tries=0
until [ -e "$partition" ] || [ $tries = 10 ]; do
    : < "$disk"
    sleep 0.1
    tries=$((tries + 1))
done
if [ -e "$partition" ]; then
    disk=$partition
elif [ -n "${PARTITION:-}" ]; then
    die "the disk has no partition $PARTITION."
fi

mkdir "$work/disk"
# The journal of a disk that was not shut down properly cannot be replayed here.
mount -o ro "$disk" "$work/disk" 2> /dev/null || mount -o ro,noload "$disk" "$work/disk" 2> /dev/null ||
    mount -o ro,norecovery "$disk" "$work/disk" || die "$disk cannot be mounted."
mounted=true
echo "$image is mounted read-only on $work/disk until the command ends." >&2
cd "$work/disk"
"$@"
