#!/bin/sh
# Installs the binaries of the build directory $1 under $DESTDIR$PREFIX, with the links by which
# mount(8), containerd and podman find the mount helper, manual pages, and completions where shells look for them.
set -eu

built=$1
bin=$PREFIX/bin
# mount(8) looks for helpers in /sbin only, so a system-wide prefix has its helper there.
case $PREFIX in
    /usr | /usr/local) sbin=/sbin ;;
    *) sbin=$PREFIX/sbin ;;
esac

install -d "$DESTDIR$bin" "$DESTDIR$sbin"
install -m 755 "$built/aufs" "$built/aufs-bench" "$DESTDIR$bin/"
ln -sfn aufs "$DESTDIR$bin/aufs-fuse"
ln -sfn "$bin/aufs" "$DESTDIR$sbin/mount.fuse.aufs"
share=$DESTDIR$PREFIX/share
bash=$share/bash-completion/completions zsh=$share/zsh/site-functions fish=$share/fish/vendor_completions.d
install -d "$bash" "$zsh" "$fish"
"$built/aufs" man "$share/man/man1"
"$built/aufs-bench" man "$share/man/man1"
"$built/aufs" completions bash >"$bash/aufs"
"$built/aufs" completions zsh >"$zsh/_aufs"
"$built/aufs" completions fish >"$fish/aufs.fish"
"$built/aufs-bench" completions bash >"$bash/aufs-bench"
"$built/aufs-bench" completions zsh >"$zsh/_aufs-bench"
"$built/aufs-bench" completions fish >"$fish/aufs-bench.fish"
printf 'installed %s\n' "$DESTDIR$bin/aufs" "$DESTDIR$bin/aufs-bench" "$DESTDIR$bin/aufs-fuse" \
    "$DESTDIR$sbin/mount.fuse.aufs" "$share/man/man1/aufs*.1" "$bash/aufs" "$zsh/_aufs" "$fish/aufs.fish"
