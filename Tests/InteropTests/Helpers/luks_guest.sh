#!/bin/dash
# SPDX-License-Identifier: Apache-2.0
# Runs in the virtual machine of scripts/vm: formats images, opens them with dm-crypt, and leaves their plaintext in /out.
#
# /in/jobs has a line for each image:
#   format NAME OPTIONS…   cryptsetup formats a copy of /in/NAME.img, kept as /out/NAME.img, and opens it
#   open NAME OPTIONS…     cryptsetup opens /in/NAME.img
#   table NAME             dmsetup makes a device of /in/NAME.table, in which LOOP is the image
# Two workers share the lines, one for each processor.

modprobe -a dm-crypt loop algif_skcipher

read_device() {
    cat "/dev/mapper/$1" > "/out/$1.plain"
}

open() {
    name=$1 image=$2
    shift 2
    cryptsetup open --readonly "$@" --key-file "/in/$name.key" "$image" "$name" && read_device "$name" &&
        cryptsetup close "$name"
}

job() {
    action=$1 name=$2
    shift 2
    case $action in
        format)
            cp "/in/$name.img" "/out/$name.img"
            cryptsetup luksFormat --batch-mode "$@" --volume-key-file "/in/$name.volume-key" \
                --key-file "/in/$name.key" "/out/$name.img" && open "$name" "/out/$name.img"
            ;;
        open) open "$name" "/in/$name.img" "$@" ;;
        table)
            # cryptsetup takes the first loop device that is free, so the last ones stay free.
            losetup -r "$loop" "/in/$name.img" && sed "s|LOOP|$loop|" "/in/$name.table" > "/tmp/$name.table" &&
                dmsetup create --readonly "$name" "/tmp/$name.table" && read_device "$name" && dmsetup remove "$name" &&
                losetup -d "$loop"
            ;;
    esac
}

# $1: 0 or 1, the lines to take.
worker() {
    loop=/dev/loop$((6 + $1))
    count=0
    while read -r line; do
        count=$((count + 1))
        [ $((count % 2)) = "$1" ] || continue
        # shellcheck disable=SC2086  # words
        job $line > "/tmp/log.$1" 2>&1 < /dev/null || {
            echo "failed: $line"
            cat "/tmp/log.$1"
            dmesg | tail -n 3
        }
    done < /in/jobs
}

worker 0 &
worker 1 &
wait
