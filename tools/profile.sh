#!/bin/sh
# Says where the time of a copy-up goes: copies COUNT files of SIZE up through a fresh mount in DIR and prints
# the server's phases and, where perf is at hand, where its processor time goes.
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

"$aufs" stat --json "$base/mnt" | python3 -c '
import json, sys
report = json.load(sys.stdin)
copies = report["copy_ups"]
files, spent = max(copies["files"], 1), copies["phases"]
whole_ns = max(sum(spent.values()), 1)
print("%d copy-ups, data mode %s: %d reflink, %d copy_file_range, %d read and write" % (
    copies["files"], report["data_mode"], copies["by_reflink"], copies["by_copy_file_range"], copies["by_read_write"]))
print("%-14s %10s %7s" % ("phase", "us a file", "share"))
for name, ns in spent.items():
    print("%-14s %10.2f %6.1f%%" % (name.removesuffix("_ns"), ns / files / 1000, 100 * ns / whole_ns))
for it in report["operations"]:
    if it["name"] in ("open", "write"):
        print("%-14s %10.2f from request to answer" % (it["name"], it["total_ns"] / it["count"] / 1000))
'
if [ -n "$recorder" ]; then
    kill -INT "$recorder"
    wait "$recorder" 2>/dev/null || true
    perf report -i "$base/perf" --no-children -g none --percent-limit 2 2>/dev/null | grep -v '^#' | grep . | head -20
fi
