#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
#
# Boots the disk of an encrypted image in QEMU, which reads it from nbdecrypt. The image itself is never written.
#
#   examples/boot-with-qemu.sh [--url nbd+unix|nbd:unix|nbd:tcp] IMAGE PASSPHRASE-FILE [QEMU-OPTION]...
#
# What the guest writes goes, unencrypted, to a temporary file in $TMPDIR and is gone when QEMU ends. Ends with QEMU's
# status. Good options: -m 4G, -accel kvm, -nographic. NBDECRYPT names the program (default: the one on
# PATH, else the release build).
set -euo pipefail

usage() {
    echo "boot-with-qemu: usage: $0 [--url nbd+unix|nbd:unix|nbd:tcp] IMAGE PASSPHRASE-FILE [QEMU-OPTION]..." >&2
    exit 1
}

kind=nbd+unix
if [ "${1:-}" = --url ]; then
    kind=${2:-}
    shift 2 || usage
fi
[ $# -ge 2 ] || usage
image=$1 passphrase_file=$2
nbdecrypt=${NBDECRYPT:-$(command -v nbdecrypt || echo "$(dirname "$0")/../.build/release/nbdecrypt")}
shift 2

# nbdecrypt sets the variables $uri and $unixsocket or $port for the command that it runs.
# shellcheck disable=SC2016
case $kind in
    nbd+unix) listen=() url='$uri' ;;
    nbd:unix) listen=() url='nbd:unix:$unixsocket' ;;
    nbd:tcp) listen=(--port 0) url='nbd:127.0.0.1:$port' ;;
    *) usage ;;
esac

# The shell that nbdecrypt starts gets QEMU's options back in one piece each.
options=
[ $# = 0 ] || options=${*@Q}
exec "$nbdecrypt" serve "$image" --passphrase-file "$passphrase_file" "${listen[@]}" \
    --run "exec qemu-system-x86_64 -m 2G -drive file=$url,format=raw,if=virtio,snapshot=on $options"
