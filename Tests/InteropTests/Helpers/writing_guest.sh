#!/bin/dash
# SPDX-License-Identifier: Apache-2.0
# Runs in the virtual machine of scripts/vm, whose kernel makes, fills and checks file systems on what nbdecrypt serves for
# writing. /in has images, each in a directory with "format" and "passphrase"; /out gets what QEMU is to read again.
#
# Prints a line for each thing that is as it should be.

modprobe -a nbd loop dm-mod dm-crypt ext4 xfs || exit 1
mkdir -p /tmp/mount
export TMPDIR=/tmp

# The start of a disk: an emulated processor takes its time for all of a large one.
# shellcheck disable=SC2016
echo 'dd if=$1 bs=1M count=80 2> /dev/null | sha256sum' > /tmp/hash

# Called with $unixsocket and $name, while nbdecrypt serves.
cat > /tmp/fill << 'FILL'
set -e
nbd-client -unix "$unixsocket" /dev/nbd0 -b "$block" > /dev/null 2>&1
case $fs in
ext4) mke2fs -q -t ext4 /dev/nbd0 ;;
xfs) mkfs.xfs -q /dev/nbd0 ;;
esac
mount -t $fs /dev/nbd0 /tmp/mount
for number in 1 2 3 4 5 6 7 8; do
    dd if=/dev/urandom of=/tmp/mount/file$number bs=100k count=$number 2> /dev/null
    [ $number = 3 ] || sync
done
rm /tmp/mount/file2
dd if=/in/noise of=/tmp/mount/direct bs=64k oflag=direct 2> /dev/null
cmp /in/noise /tmp/mount/direct
(cd /tmp/mount && sha256sum file* direct) > /tmp/sums-$name
umount /tmp/mount
case $fs in
ext4) e2fsck -fn /dev/nbd0 > /tmp/check 2>&1 || { cat /tmp/check; exit 1; } ;;
xfs) xfs_repair -n /dev/nbd0 > /tmp/check 2>&1 || { cat /tmp/check; exit 1; } ;;
esac
dash /tmp/hash /dev/nbd0 > /tmp/hash-$name
nbd-client -d /dev/nbd0 > /dev/null 2>&1
echo "$name: $fs is sound"
FILL

# What nbdecrypt has copied into containers of cryptsetup.
for image in /in/migrated/*; do
    device=$(losetup -f)
    losetup -r "$device" "$image/disk"
    cryptsetup open --readonly --key-file "$image/passphrase" "$device" plain
    dash /tmp/hash /dev/mapper/plain | cmp - "$image/hash" && echo "${image##*/}: dm-crypt reads what was copied"
    cryptsetup close plain
    losetup -d "$device"
done

for image in /in/images/*; do
    name=${image##*/}
    export name
    fs=$(cat "$image/fs")
    export fs
    # dm-crypt with sectors of 4096 bytes mounts no XFS that was made for smaller ones.
    block=512
    [ "$name" != luks2-4k ] || block=4096
    export block
    cp "$image/disk" "/tmp/$name"
    nbdecrypt serve --writable "/tmp/$name" --passphrase-file "$image/passphrase" --run 'dash /tmp/fill' 2> /tmp/log ||
        { cat /tmp/log; continue; }
    case $name in
    luks*)
        # The kernel decrypts what was written.
        device=$(losetup -f)
        losetup "$device" "/tmp/$name"
        cryptsetup open --key-file "$image/passphrase" "$device" plain
        dash /tmp/hash /dev/mapper/plain | cmp - "/tmp/hash-$name" && echo "$name: dm-crypt reads the same"
        # The other way: the kernel writes, nbdecrypt reads.
        mount -t "$fs" /dev/mapper/plain /tmp/mount
        (cd /tmp/mount && sha256sum file* direct) | cmp - "/tmp/sums-$name" && echo "$name: the files are there"
        cp /in/noise /tmp/mount/again
        umount /tmp/mount
        dash /tmp/hash /dev/mapper/plain > /tmp/kernel
        cryptsetup close plain
        losetup -d "$device"
        # shellcheck disable=SC2016
        nbdecrypt serve "/tmp/$name" --passphrase-file "$image/passphrase" --run '
            nbd-client -unix "$unixsocket" /dev/nbd0 -b 512 -readonly > /dev/null 2>&1
            dash /tmp/hash /dev/nbd0 | cmp - /tmp/kernel && echo "$name: what dm-crypt wrote is read"
            nbd-client -d /dev/nbd0 > /dev/null 2>&1' 2> /tmp/log || cat /tmp/log
        ;;
    *)
        cp "/tmp/$name" "/out/$name"
        cp "/tmp/hash-$name" "/out/$name.hash"
        ;;
    esac
    rm -f "/tmp/$name"
done
