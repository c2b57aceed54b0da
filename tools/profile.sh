#!/bin/sh
# Says where the time of a copy-up goes: copies COUNT files of SIZE up through a fresh mount in DIR and prints
# what the server tells, the phases of all copies together among it, and, where perf is at hand, where its
# processor time goes.
#
# usage: AUFS=path/of/aufs tools/profile.sh [SIZE [COUNT [DIR]]]
set -eu

aufs=${AUFS:?set AUFS to the aufs binary}
size=${1:-4K}
count=${2:-500}
base=$(mktemp -d "${3:-${TMPDIR:-/tmp}}/aufs-profile.XXXXXX")
clean() {
    "$aufs" umount "$base/mnt" 2>/dev/null || true
    rm -rf "$base"
}
trap clean EXIT
trap 'exit 130' INT TERM

mkdir "$base/up" "$base/low" "$base/mnt"
echo "writing $count files of $size below $base" >&2
head -c "$size" /dev/urandom >"$base/low/f0"
number=1
while [ "$number" -lt "$count" ]; do
    cp "$base/low/f0" "$base/low/f$number"
    number=$((number + 1))
done

"$aufs" mount -o "br:$base/up=rw:$base/low=ro+wh" "$base/mnt"
server=$(getfattr --only-values --absolute-names -n user.aufs.server "$base/mnt")
recorder=''
if command -v perf >/dev/null && perf record -q -o "$base/probe" true 2>/dev/null; then
    perf record -q -g -o "$base/perf" -p "$server" 2>/dev/null &
    recorder=$!
    sleep 1
else
    echo "no perf that works here: phases only" >&2
fi

echo "copying up" >&2
number=0
while [ "$number" -lt "$count" ]; do
    printf x 1<>"$base/mnt/f$number"
    number=$((number + 1))
done
sync -f "$base/mnt" # Without opens the kernel writes back later.

"$aufs" stat "$base/mnt"
if [ -n "$recorder" ]; then
    kill -INT "$recorder"
    wait "$recorder" 2>/dev/null || true
    perf report -i "$base/perf" --no-children -g none --percent-limit 2 2>/dev/null | grep -v '^#' | grep . | head -20
fi
