#!/bin/sh
# Installs the binaries of the build directory $1 under $DESTDIR$PREFIX, with the links by which
# mount(8), containerd and podman find the mount helper.
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
printf 'installed %s\n' "$DESTDIR$bin/aufs" "$DESTDIR$bin/aufs-bench" "$DESTDIR$bin/aufs-fuse" "$DESTDIR$sbin/mount.fuse.aufs"
