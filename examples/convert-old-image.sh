#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
#
# Moves an old AES-encrypted qcow2 image to a format that is still good: qcow2 with LUKS, or plain qcow2.
#
#   examples/convert-old-image.sh IMAGE PASSPHRASE-FILE NEW-IMAGE [NEW-PASSPHRASE-FILE]
#
# Without NEW-PASSPHRASE-FILE the new image is not encrypted. The old image is only read. NBDECRYPT names the program
# (default: the one on PATH, else the release build).
set -euo pipefail

die() {
    echo "convert-old-image: $*" >&2
    exit 1
}

[ $# = 3 ] || [ $# = 4 ] || die "usage: $0 IMAGE PASSPHRASE-FILE NEW-IMAGE [NEW-PASSPHRASE-FILE]"
image=$1 passphrase_file=$2 new_image=$3 new_passphrase_file=${4:-}
nbdecrypt=${NBDECRYPT:-$(command -v nbdecrypt || echo "$(dirname "$0")/../.build/release/nbdecrypt")}
[ ! -e "$new_image" ] || die "$new_image exists already: remove it or choose another name."

work=$(mktemp -d)
server=
complete=false
cleanup() {
    [ -z "$server" ] || kill "$server" 2> /dev/null || true
    $complete || rm -f "$new_image"
    rm -rf "$work"
}
trap cleanup EXIT
trap 'exit 130' INT TERM HUP

# Starts nbdecrypt and waits until it listens. It ends by itself when its client has gone.
serve() {
    "$nbdecrypt" serve "$image" --passphrase-file "$passphrase_file" --once \
        --socket "$work/nbd.sock" --pid-file "$work/pid" > /dev/null &
    server=$!
    until [ -s "$work/pid" ]; do
        kill -0 "$server" 2> /dev/null || {
            wait "$server" || exit $?
            die "nbdecrypt ended before it listened."
        }
        sleep 0.05
    done
}

# qemu-img ARGUMENT... with the new passphrase, if there is one, in a pipe: it is on no command line. QEMU would take a
# newline at the end of the file for a part of the passphrase; the shell drops it.
qemu_img() {
    if [ -n "$new_passphrase_file" ]; then
        qemu-img "$1" --object secret,id=new,file=/dev/fd/3 "${@:2}" 3< <(printf %s "$(< "$new_passphrase_file")")
    else
        qemu-img "$@"
    fi
}

encryption=()
key=
if [ -n "$new_passphrase_file" ]; then
    [ -s "$new_passphrase_file" ] || die "$new_passphrase_file holds no passphrase."
    encryption=(-o "encrypt.format=luks,encrypt.key-secret=new")
    key=,encrypt.key-secret=new
fi

progress=()
if [ -t 1 ]; then progress=(-p); fi
serve
qemu_img convert "${progress[@]}" -f raw -O qcow2 "${encryption[@]}" "nbd+unix:///?socket=$work/nbd.sock" "$new_image"
wait "$server"

# QEMU's own reading of the new image against nbdecrypt's of the old one. A comma in a name is doubled for QEMU.
rm -f "$work/pid"
serve
qemu_img compare --image-opts "driver=nbd,server.type=unix,server.path=$work/nbd.sock" \
    "driver=qcow2,file.filename=${new_image//,/,,}$key" || die "$new_image differs from $image: it was removed."
wait "$server"
server=
sync "$new_image"
complete=true

cat <<END
$new_image holds the same disk as $image. Try it, then make sure that nobody finds the old image:
  - overwrite and remove it: shred -u $(printf %q "$image")
    (this does not reach copies: snapshots of the file system, flash cells, backups)
  - use its passphrase nowhere else: whoever has a copy of the old image can try guesses at full speed.
END
