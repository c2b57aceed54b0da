#!/bin/sh
# The storage driver from end to end: a small image of this machine's busybox, two containers, a commit,
# and the examples of the AUFS driver's documentation. Usage: demo.sh AUFS, the command to use; as root.
set -eu

aufs=$1
. "$(dirname "$0")/scratch.sh"
here="$work/here" there="$work/there"
roots="$here $there"

image() { "$aufs" image --root "$here" "$@"; }
container() { "$aufs" container --root "$here" "$@"; }
digest() { sha256sum "$1" | cut -d' ' -f1; }

# An archive of what lies in a directory, as a layer has it.
layer() { tar --numeric-owner --owner=0 --group=0 --mtime=@1000000000 --sort=name -C "$1" -cf "$2" .; }

busybox=$(command -v busybox || true)
[ -n "$busybox" ] || { echo "demo: needs busybox (Debian: busybox-static)" >&2; exit 3; }

say 'An image of four layers: busybox; files; a changed and a deleted file; an opaque directory'
mkdir -p "$work/1/bin" "$work/2/etc" "$work/2/data" "$work/3/etc" "$work/4/data"
cp "$busybox" "$work/1/bin/busybox"
for name in sh ls cat rm echo mkdir touch chmod ps; do ln -s busybox "$work/1/bin/$name"; done
echo 'first'  >"$work/2/etc/motd"; echo 'secret' >"$work/2/etc/secret"
echo 'old'    >"$work/2/data/old"
echo 'second' >"$work/3/etc/motd"; : >"$work/3/etc/.wh.secret"
: >"$work/4/data/.wh..wh..opq";    echo 'new' >"$work/4/data/new"
mkdir "$work/image"
diff_ids='' members=''
for at in 1 2 3 4; do
    layer "$work/$at" "$work/image/$at.tar"
    diff_ids="$diff_ids,\"sha256:$(digest "$work/image/$at.tar")\""
    gzip -n "$work/image/$at.tar"
    members="$members,\"$at.tar.gz\""
done
arch=$(dpkg --print-architecture 2>/dev/null || echo amd64)
printf '{"architecture":"%s","os":"linux","config":{"Cmd":["sh"]},"rootfs":{"type":"layers","diff_ids":[%s]}}' \
    "$arch" "${diff_ids#,}" >"$work/image/config.json"
printf '[{"Config":"config.json","RepoTags":["demo:1"],"Layers":[%s]}]' "${members#,}" >"$work/image/manifest.json"
image load "$work/image"
image ls

say 'Two containers of it'
one=$(container create --name one demo:1)
mkdir "$work/volume"
container create --name two --volume "$work/volume:/volume" demo:1 >/dev/null
container start one two >/dev/null
container ls

say 'What they show: a file of the third layer, no deleted file, only the new content of the opaque directory'
container exec one sh -c 'cat /etc/motd; ls /etc /data'

say 'Each changes what it has; the other does not see it'
container exec one sh -c 'echo changed >/etc/motd; rm /data/new; mkdir /data/dir; echo hello >/data/dir/file'
container exec two sh -c 'cat /etc/motd /data/new; echo past the union >/volume/file; ps'
cat "$work/volume/file"
container diff one

say 'The files of layers/: of the topmost layer of the image, and of a container'
top=$(sed -n 2p "$here/aufs/layers/$one")
echo "layers/$top:"; cat "$here/aufs/layers/$top"
echo "layers/$one:"; cat "$here/aufs/layers/$one"

say 'Committed, saved, and loaded elsewhere it is the same tree'
container commit --message 'the demo' one demo:2
image history demo:2
image save --output "$work/saved.tar" demo:2
"$aufs" image --root "$there" load "$work/saved.tar"
"$aufs" container --root "$there" create --name three demo:2 >/dev/null
root=$("$aufs" container --root "$there" start three)
mine="$here/aufs/mnt/$one"
for tree in "$mine" "$root"; do
    (cd "$tree" && find . ! -path './dev*' ! -path './proc*' ! -path './sys*' -printf '%P %y %m %u %g %s %l\n' | sort) >"$work/tree"
    (cd "$tree" && find etc data bin -type f -exec sha256sum {} + | sort -k2) >>"$work/tree"
    sed -i 's/^\([^ ]* d [0-7]* [^ ]* [^ ]*\) [0-9]*/\1/' "$work/tree"
    digest "$work/tree"
done >"$work/digests"
[ "$(sort -u "$work/digests" | wc -l)" = 1 ] && echo 'the trees are the same'
[ "$(sort -u "$work/digests" | wc -l)" = 1 ]

say 'The storage driver, as docker info shows it: an image of four layers and one container make six'
container rm --force two >/dev/null
image rm demo:2 >/dev/null
"$aufs" info --root "$here"
