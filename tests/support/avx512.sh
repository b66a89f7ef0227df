#!/usr/bin/env bash
# Golden samples by C in registers of 16 numbers, on an emulated Skylake-X: few machines have AVX-512, and QEMU emulates
# none. Debian's kernel boots in Bochs, with nothing but one program for each bundle and optimisation. Type: make test-avx512
set -euo pipefail

[ $# -ge 3 ] || { echo "usage: $0 FOLDER LNN_EDGE BUNDLE..." >&2; exit 2; }
folder=$1 lnn_edge=$2
shift 2
mkdir -p "$folder"
folder=$(realpath "$folder")
packages="bochs bochsbios vgabios cpio dpkg gcc grub-common grub-pc-bin mtools xorriso"
for program in bochs cpio dpkg gcc grub-mkrescue mformat xorriso; do
    command -v "$program" > /dev/null || {
        echo "no $program. Type: sudo apt-get install --no-install-recommends $packages" >&2
        exit 1
    }
done

if [ ! -e "$folder/system" ]; then # nothing of it is installed
    rm -rf "$folder/packages" "$folder/unpacked" && mkdir -p "$folder/packages" "$folder/unpacked"
    kernel=$(apt-cache depends linux-image-cloud-amd64 | sed -n 's/^ *Depends: //p')
    (cd "$folder/packages" && apt-get -qq -o "APT::Sandbox::User=$(id -un)" download "$kernel" busybox-static)
    for package in "$folder"/packages/*.deb; do dpkg -x "$package" "$folder/unpacked"; done
    mv "$folder/unpacked" "$folder/system" # whole, or to be made again
fi

rm -rf "$folder/initramfs" "$folder/iso" "$folder/c"
mkdir -p "$folder/initramfs"/{bin,proc,programs} "$folder/iso/boot/grub" "$folder/c"
for bundle; do
    name=$(basename "$bundle" .lnn)
    "$lnn_edge" codegen "$bundle" -o "$folder/c/$name" --target vector16 > "$folder/c/$name.txt"
    for optimisation in -O1 -O3; do
        gcc -std=gnu99 $optimisation -march=skylake-avx512 -fno-math-errno -fno-trapping-math -static \
            "$folder/c/$name"/*.c -o "$folder/initramfs/programs/$name$optimisation" -lm
    done
done

cp "$folder/system/bin/busybox" "$folder/initramfs/bin"
cat > "$folder/initramfs/init" << 'EOF'
#!/bin/busybox sh
/bin/busybox mount -t proc none /proc
/bin/busybox grep -c avx512f /proc/cpuinfo
for program in /programs/*; do
    echo "$program"
    $program || echo "failed with $?"
done
echo end
/bin/busybox sleep 2 # until the serial line has taken it
/bin/busybox poweroff -f
EOF
chmod +x "$folder/initramfs/init"
(cd "$folder/initramfs" && find . | cpio --quiet -o -H newc -R 0:0) | gzip -1 > "$folder/iso/boot/initrd"
cp "$folder"/system/boot/vmlinuz-* "$folder/iso/boot/vmlinuz"
# Of a compact state of AVX-512 Bochs tells another size than Linux counts, which then switches AVX off.
cat > "$folder/iso/boot/grub/grub.cfg" << 'EOF'
set timeout=0
menuentry programs {
    linux /boot/vmlinuz console=ttyS0 quiet clearcpuid=xsaves,xsavec,pku mitigations=off nosmp tsc=reliable random.trust_cpu=1
    initrd /boot/initrd
}
EOF
grub-mkrescue -o "$folder/disk.iso" "$folder/iso" 2> "$folder/grub.txt"
cat > "$folder/bochsrc" << EOF
megs: 512
cpu: model=corei7_skylake_x, ips=100000000
romimage: file=/usr/share/bochs/BIOS-bochs-latest
vgaromimage: file=/usr/share/bochs/VGABIOS-lgpl-latest
ata0-master: type=cdrom, path=$folder/disk.iso, status=inserted
boot: cdrom
com1: enabled=1, mode=file, dev=$folder/said.txt
display_library: rfb, options="timeout=0"
clock: sync=none
log: $folder/bochs.txt
EOF
: > "$folder/said.txt"
echo c > "$folder/continue" # Debian's Bochs begins in its debugger
timeout 1200 bochs -q -f "$folder/bochsrc" -rc "$folder/continue" < <(tail -f /dev/null --pid $$) > "$folder/screen.txt" 2>&1 &
bochs=$!
trap 'kill "$bochs" 2> /dev/null || true' EXIT # of a group of its own, which Ctrl-C in a terminal does not reach
wait "$bochs" || true
grep -a . "$folder/said.txt" || true
programs=$(find "$folder/initramfs/programs" -type f | wc -l)
[ "$(grep -a -c '^equal: ' "$folder/said.txt")" = "$programs" ] || {
    echo "of $programs programs not all are equal; what Bochs says: $folder/bochs.txt, $folder/screen.txt" >&2
    exit 1
}
