#!/bin/bash
# build_guest.sh DIR: makes DIR/vmlinuz and DIR/initramfs.img from Debian packages; nothing is installed.
# A second call with the same packages and the same sources changes nothing. Needs: gcc, cpio, gzip, apt-get, dpkg-deb.
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
[ $# -eq 1 ] || { sed -n 2,3p "${BASH_SOURCE[0]}" >&2; exit 2; }
mkdir -p "$1"
out=$(cd "$1" && pwd)

kernel_package() {
    apt-cache depends linux-image-cloud-amd64 | sed -n 's/^ *Depends: \(linux-image-[0-9].*\)/\1/p' | grep -v '[<>]' | head -n 1
}
candidate() { apt-cache policy "$1" | sed -n 's/^ *Candidate: //p'; }

kernel=$(kernel_package)
[ -n "$kernel" ] || { echo "build_guest.sh: linux-image-cloud-amd64 is unknown to apt: run apt-get update" >&2; exit 1; }
version="$kernel $(candidate "$kernel") $(candidate busybox-static) $(candidate qemu-guest-agent)"
version+=" $(cat "$here"/{record_writer.c,init.sh,shutdown.sh,build_guest.sh} | sha256sum | cut -c1-16)"
exec 9>"$out/.lock"
flock 9
if [ -f "$out/vmlinuz" ] && [ -f "$out/initramfs.img" ] && [ "$(cat "$out/version" 2>/dev/null)" = "$version" ]; then
    exit 0
fi
rm -f "$out/version"
work=$(mktemp -d "$out/.build-XXXXXX")
trap 'rm -rf "$work"' EXIT
chmod 755 "$work"

# _apt may not enter a private directory; then apt downloads as the caller and warns about it.
(cd "$work" && apt-get -qq -o APT::Sandbox::User=root download "$kernel" busybox-static qemu-guest-agent)
mkdir "$work/packages" "$work/root"
for package in "$work"/*.deb; do
    dpkg-deb -x "$package" "$work/packages"
done

root=$work/root
mkdir -p "$root"/{bin,dev,proc,sys,run,tmp,etc,modules,sbin,usr/sbin,var/run}
busybox=$(find "$work/packages" -path '*/bin/busybox' -type f | head -n 1)
install -m 755 "$busybox" "$root/bin/busybox"
ln -s busybox "$root/bin/sh"
modules=$(find "$work/packages" -type d -path '*/modules/*/kernel' | head -n 1)
# A module after the modules it depends on; what is not a module is built in.
add_module() {
    local file needed
    [ ! -f "$root/modules/$1.ko" ] || return 0
    file=$(find "$modules" -name "$1.ko*" | head -n 1)
    [ -n "$file" ] || return 0
    case "$file" in
        *.xz) xz -dc "$file" >"$root/modules/$1.ko" ;;
        *.zst) zstd -qdc "$file" >"$root/modules/$1.ko" ;;
        *) cp "$file" "$root/modules/$1.ko" ;;
    esac
    for needed in $(tr '\0' '\n' <"$root/modules/$1.ko" | grep -a '^depends=' | cut -d= -f2 | tr , ' '); do
        add_module "$needed"
    done
    echo "$1.ko" >>"$root/modules/order"
}
for name in virtio_pci virtio_blk virtio_console evdev button; do
    add_module "$name"
done
gcc -static -Os -Wall -Wextra -s -o "$root/record_writer" "$here/record_writer.c"
install -m 755 "$here/init.sh" "$root/init"
install -m 755 "$here/shutdown.sh" "$root/sbin/shutdown"
agent=$(find "$work/packages" -name qemu-ga -type f | head -n 1)
# Its libraries come from this machine; where one is missing the guest goes without an agent.
if ! ldd "$agent" | grep -q 'not found'; then
    install -m 755 "$agent" "$root/usr/sbin/qemu-ga"
    ldd "$agent" | grep -o '/[^ ]*' | while read -r library; do
        install -D -m 755 "$(readlink -f "$library")" "$root$library"
    done
fi

(cd "$root" && find . -print0 | sort -z | cpio --null --quiet -o -H newc --owner=0:0 | gzip -6n) >"$work/initramfs.img"
cp "$(find "$work/packages/boot" -name 'vmlinuz-*' | head -n 1)" "$work/vmlinuz"
chmod 644 "$work/vmlinuz" "$work/initramfs.img"
mv "$work/vmlinuz" "$work/initramfs.img" "$out/"
echo "$version" >"$out/version"
