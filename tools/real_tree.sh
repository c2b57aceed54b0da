#!/bin/sh
# Uses a Debian root as the lower branch of a union as people use one, and checks that not a byte of it changed.
#
#     tools/real_tree.sh ROOT [DATA_MODE]
#
# ROOT is a Debian root with git and gcc, such as debootstrap --variant=minbase --include=git,gcc,libc6-dev makes.
# Needs root, cargo, and AUFS (the `aufs` program; default target/release/aufs).
set -eu
[ $# -ge 1 ] || { echo "usage: $0 ROOT [auto|passthrough|cached]" >&2; exit 2; }
root=$(cd "$1" && pwd)
mode=${2:-auto}
project=$(cd "$(dirname "$0")/.." && pwd)
aufs=${AUFS:-$project/target/release/aufs}
base=$(mktemp -d)
union=$base/union
mkdir "$base/up" "$union" "$base/deb"

# Names, types, modes, owners, sizes, times and link targets, then every byte.
tree_hash() {
    (cd "$root" && find . -xdev -printf '%p %y %m %U %G %s %T@ %l\n' | LC_ALL=C sort
     find "$root" -xdev -type f -print0 | LC_ALL=C sort -z | xargs -0 sha256sum) | sha256sum
}

cleanup() {
    cd /
    "$aufs" umount "$union" 2>/dev/null || umount -l "$union" 2>/dev/null || true
    rm -rf "$base"
}
trap cleanup EXIT
trap 'exit 130' INT TERM

before=$(tree_hash)
"$aufs" mount -o "data=$mode" --branch "$base/up=rw" --branch "$root=ro+wh" "$union"

echo "dpkg -l: $(chroot "$union" dpkg -l | grep -c '^ii') packages"

mkdir -p "$base/deb/DEBIAN" "$base/deb/usr/share/union-check"
printf 'Package: union-check\nVersion: 1.0\nArchitecture: all\nMaintainer: nobody <nobody@example.org>\nDescription: checks a union\n' \
    > "$base/deb/DEBIAN/control"
echo installed > "$base/deb/usr/share/union-check/file"
dpkg-deb --root-owner-group -b "$base/deb" "$union/root/union-check.deb" >/dev/null
chroot "$union" dpkg -i /root/union-check.deb >/dev/null
echo "dpkg -i: $(chroot "$union" cat /usr/share/union-check/file)"
chroot "$union" dpkg -r union-check >/dev/null
[ ! -e "$union/usr/share/union-check" ]

git clone -q --no-hardlinks "$project" "$union/root/project"
changes=$(chroot "$union" git -c safe.directory='*' -C /root/project status --short)
git -c safe.directory='*' -C "$union/root/project" fsck --no-dangling --no-progress
echo "git clone, git status: ${changes:-clean}"

mkdir "$union/root/small"
cd "$union/root/small"
cargo init -q --name small .
unset CARGO_TARGET_DIR
cargo build -q
echo "cargo build: $(target/debug/small)"
cd /

printf 'int main(void) { return 42; }\n' > "$union/root/main.c"
chroot "$union" gcc /root/main.c -o /root/main
code=0
chroot "$union" /root/main || code=$?
echo "gcc in the union: exit code $code"
[ "$code" = 42 ]

"$aufs" umount "$union"
after=$(tree_hash)
[ "$before" = "$after" ] || { echo "the lower branch CHANGED" >&2; exit 1; }
echo "lower branch unchanged: ${after%% *}"
