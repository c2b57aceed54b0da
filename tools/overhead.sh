#!/bin/sh
# Says what the bench itself costs: its null operation, and its reference operation beside the same loop in C,
# both in turn in blocks.
#
# usage: tools/overhead.sh AUFS_BENCH [arguments of `aufs-bench overhead`]
set -eu

bench=$1
shift
compiler=$(command -v "${CC:-cc}") || { echo "overhead: needs a C compiler (Debian: gcc)" >&2; exit 4; }
. "$(dirname "$0")/scratch.sh"
"$compiler" -O2 -Wall -Werror -o "$work/reference" "$(dirname "$0")/reference.c"
"$bench" overhead --peer "$work/reference" "$@"
