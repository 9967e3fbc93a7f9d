# Runs (by mmdebstrap) when every package is installed; $1 is the root.
set -e
# en_US.UTF-8 and de_DE.UTF-8 as directories: unlike locale-archive they can be sliced
mkdir -p "$1/usr/lib/locale"
running=
for locale in en_US de_DE; do
    chroot "$1" localedef --no-archive -i "$locale" -f UTF-8 "/usr/lib/locale/$locale.utf8" &
    running="$running $!"
done
# the kernel is unpacked rather than installed: its scripts would want an initrd; vmlinuz lies where Arch has it
cd "$1/var/cache/apt/archives"
image=$(APT_CONFIG=$MMDEBSTRAP_APT_CONFIG apt-cache depends linux-image-amd64 | sed -n 's/.*Depends: \(linux-image-[0-9].*\)/\1/p')
APT_CONFIG=$MMDEBSTRAP_APT_CONFIG apt-get download -q "$image"
deb=$(ls -t -- "$image"_*.deb | head -n 1)
mkdir "$1/.kernel"
dpkg-deb --fsys-tarfile "$deb" | tar -x -C "$1/.kernel"
cp -a "$1/.kernel/usr/lib/modules" "$1/usr/lib/"
for vmlinuz in "$1"/.kernel/boot/vmlinuz-*; do
    version=${vmlinuz##*/vmlinuz-}
    install -m 644 "$vmlinuz" "$1/usr/lib/modules/$version/vmlinuz"
    echo linux >"$1/usr/lib/modules/$version/pkgbase"
done
dpkg-deb -f "$deb" >"$1/var/lib/dpkg/linux-image"
rm -r "$1/.kernel"
for process in $running; do wait "$process"; done
