#!/bin/sh
# Imports a Debian root as one layer, installs a package in a container of it, and checks that `aufs container diff` says
# just what changed; commits that as a second layer and uses it. Usage: debian.sh AUFS [PACKAGE] [SUITE] [MIRROR]; as root.
set -eu

aufs=$1 package=${2:-jq} suite=${3:-bookworm} mirror=${4:-http://deb.debian.org/debian}
. "$(dirname "$0")/scratch.sh"
roots=$work/data

fail() { printf 'debian: %s\n' "$*" >&2; exit 1; }
image() { "$aufs" image --root "$work/data" "$@"; }
container() { "$aufs" container --root "$work/data" "$@"; }

# Type, mode, owner, size, time and target of each entry, then its path, whose directories' sizes and link counts say nothing.
tree() {
    (cd "$1" && find . -mindepth 1 \( -type d -printf 'd %m %U %G - - - \t%P\n' -o -printf '%y %m %U %G %s %T@ %l \t%P\n' \)) |
        LC_ALL=C sort
}
paths() { cut -f2 "$1" | LC_ALL=C sort; }
told() { sed -n "s/^$1 \///p" "$work/diff" | LC_ALL=C sort; }

command -v debootstrap >/dev/null || fail 'needs debootstrap (Debian: debootstrap)'

say "A Debian root ($suite) as one layer"
debootstrap --variant=minbase "$suite" "$work/root" "$mirror" >"$work/log" 2>&1 || { tail -5 "$work/log" >&2; fail 'debootstrap failed'; }
mkdir "$work/image"
tar --numeric-owner --xattrs --one-file-system --sort=name -C "$work/root" -cf "$work/image/layer.tar" .
rm -rf "$work/root"
digest=$(sha256sum "$work/image/layer.tar" | cut -d' ' -f1)
printf '{"architecture":"%s","os":"linux","config":{"Env":["PATH=/usr/sbin:/usr/bin:/sbin:/bin","DEBIAN_FRONTEND=noninteractive"]},"rootfs":{"type":"layers","diff_ids":["sha256:%s"]}}' \
    "$(dpkg --print-architecture)" "$digest" >"$work/image/config.json"
printf '[{"Config":"config.json","RepoTags":["debian:%s"],"Layers":["layer.tar"]}]' "$suite" >"$work/image/manifest.json"
image load "$work/image"
image ls

say "apt-get install $package in a container"
container create --name work --volume /etc/resolv.conf:/etc/resolv.conf:ro "debian:$suite" >/dev/null
root=$(container start work)
tree "$root" >"$work/before"
container exec work sh -c "apt-get update && apt-get install --yes --no-install-recommends $package" >"$work/log" 2>&1 ||
    { tail -5 "$work/log" >&2; fail "apt-get failed"; }
tree "$root" >"$work/after"
container diff work >"$work/diff"

say 'What changed, by find, and what aufs container diff says'
paths "$work/before" >"$work/paths-before"
paths "$work/after" >"$work/paths-after"
LC_ALL=C comm -13 "$work/paths-before" "$work/paths-after" >"$work/added"
# Of a directory that went, only itself is named.
LC_ALL=C comm -23 "$work/paths-before" "$work/paths-after" >"$work/deleted"
LC_ALL=C comm -13 "$work/before" "$work/after" | cut -f2 | LC_ALL=C sort | LC_ALL=C comm -23 - "$work/added" >"$work/changed"
told A >"$work/told-added"
told D >"$work/told-deleted"
told C >"$work/told-changed"
cmp "$work/added" "$work/told-added" || fail 'other entries were added than diff says'
awk 'NR == FNR { told[$0]; next } { path = $0; while (!(path in told)) if (!sub(/\/[^\/]*$/, "", path)) exit 1 }' \
    "$work/told-deleted" "$work/deleted" || fail 'an entry was deleted of which diff does not tell'
LC_ALL=C comm -13 "$work/deleted" "$work/told-deleted" | grep . && fail 'diff tells of deletions that were none'
LC_ALL=C comm -23 "$work/changed" "$work/told-changed" | grep . && fail 'an entry changed of which diff does not tell'
# A file that was only opened for writing has been copied up, and a directory in which something came or went counts.
LC_ALL=C comm -13 "$work/changed" "$work/told-changed" | while read -r path; do
    [ -d "$root/$path" ] || printf '%s\n' "$path"
done >"$work/copied"
printf '%s added, %s deleted, %s changed; copied up without a change: %s\n' "$(wc -l <"$work/added")" \
    "$(wc -l <"$work/deleted")" "$(wc -l <"$work/changed")" "$(tr '\n' ' ' <"$work/copied")"
container exec work dpkg --listfiles "$package" | while read -r path; do
    [ -e "$root$path" ] || fail "$path of $package is not there"
done
container stop work

say 'The second layer'
container commit work "debian:$package" >/dev/null
container rm work >/dev/null
image history "debian:$package"
container create --name again "debian:$package" >/dev/null
container start again >/dev/null
container exec again dpkg-query --show "$package"
container exec again dpkg --verify "$package"
container diff again >"$work/diff"
sed -n '/^[ACD] \/\(usr\|etc\)\//p' "$work/diff" | grep . && fail 'the new container is not as it was committed'
container rm --force again >/dev/null
echo 'debian: done'
