#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
#
# Copies one part of a list of images into new ones, so that several machines can share the work.
#
#   examples/migrate-part.sh PART PARTS LIST OUTPUT-DIR [OPTION-OF-MIGRATE]...
#
# LIST is as `nbdecrypt migrate --list` has it; PART is a number from 1 to PARTS. Every machine sees the list, the images
# and OUTPUT-DIR. The new images of part 2 of 8 go to OUTPUT-DIR/2-of-8. Run again with the same numbers, it goes on where it
# has ended, however that was. Paths in options start in the directory of LIST. Ends with the number of images that were not
# copied, as nbdecrypt does. docs/migrating.md says how Slurm, GNU parallel and Kubernetes call it. NBDECRYPT names the
# program (default: the one on PATH, else the release build).
set -euo pipefail

die() {
    echo "migrate-part: $*" >&2
    exit 64
}

[ $# -ge 4 ] || die "usage: $0 PART PARTS LIST OUTPUT-DIR [OPTION-OF-MIGRATE]..."
part=$1 parts=$2 list=$3 output=$4
shift 4
number='^[1-9][0-9]{0,5}$'
[[ $part =~ $number && $parts =~ $number && $part -le $parts ]] ||
    die "part $part of $parts: take numbers from 1 on, the first no larger than the second."
[ -r "$list" ] || die "the list $list cannot be read."
nbdecrypt=$(realpath "${NBDECRYPT:-$(command -v nbdecrypt || echo "$(dirname "$0")/../.build/release/nbdecrypt")}")
mkdir -p "$output"
output=$(realpath "$output")/$part-of-$parts
list=$(realpath "$list")
cd "$(dirname "$list")"

# In turn, because images that lie beside each other in a list are often of one kind.
mine=$(awk -v part="$part" -v parts="$parts" '!/^(#|$)/ && ++count % parts == part % parts' "$list")
if [ -z "$mine" ]; then
    echo "migrate-part: $list has nothing for part $part of $parts." >&2
    exit 0
fi
exec "$nbdecrypt" migrate --list - --output-dir "$output" "$@" <<< "$mine"
