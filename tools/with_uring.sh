#!/bin/sh
# Runs a command while FUSE may use io_uring, and restores the host's switch afterwards. Needs root and Linux 6.14.
#
# usage: tools/with_uring.sh COMMAND [ARGUMENT…]
set -eu

switch=/sys/module/fuse/parameters/enable_uring
if ! [ -w "$switch" ]; then
    case ",${REQUIRE:-}," in
        *,uring,*) echo "io_uring is required, but $switch cannot be written" >&2; exit 1 ;;
    esac
    echo "skipped: $switch cannot be written here (Linux 6.14, root): $*" >&2
    exit 0
fi

# The tests of the transports turn the same switch.
exec 9>/tmp/enable-uring.lock
flock 9
before=$(cat "$switch")
restore() { echo "$before" >"$switch"; }
trap restore EXIT
trap 'exit 130' INT TERM
echo Y >"$switch"
"$@"
