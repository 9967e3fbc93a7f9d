"""What does archinstall do to make an encrypted host, as plain commands, part by part?

After archinstall's lib/installer.py and scripts/guided.py (archlinux/archinstall at ede2bd3, August 2026),
for LUKS on LVM with systemd-boot: perform_installation() has minimal_installation() strap the packages, set
host name and locale and call mkinitcpio -P; then come add_bootloader(), create_users(), services and
genfstab(). mkinitcpio's own hook has made the initrd already when the kernel was installed; ``-P`` makes it
again, now that HOOKS has encrypt and lvm2.

Debian has no mkinitcpio, so dracut stands for it: for this machine's hardware, as `autodetect` has it, with
the same compression. arch-chroot and genfstab are Arch's own (Debian's arch-install-scripts). The stand-in's
packages have none of the scripts and hooks that Arch's have: HOOKS does what those of the packages of `work`
do. What ``pacstrap -K`` and archlinux-keyring do to make pacman's keyring is left out.
"""

import shutil
from pathlib import Path

from builder.files import exclusive
from builder.project import cache_home
from builder.run import run
from builder.tools import SUITE, build_tree

MAKERS = ("dracut-core", "dracut-install", "cpio")  # what mkinitcpio's package would bring to the target
LIVE = ("arch-install-scripts",)  # what Arch's live system has
NOT_WANTED = ("/usr/share/doc/", "/usr/share/man/", "/usr/share/lintian/")

PREPARE = """\
set -e
cp -a {kit}/tools/usr/bin/mtools {kit}/tools/usr/bin/mcopy {kit}/tools/usr/bin/mmd /usr/bin/
tar -C / -xf {packages}/live.tar
mkdir -p /etc/seatsmith /run/memory
cp -r {packages}/gnupg /etc/seatsmith/gnupg
chmod 700 /etc/seatsmith/gnupg
mount -o remount,size=4G /run
mount -t tmpfs -o size=5G memory /run/memory
dd if=/dev/zero of=/run/memory/all bs=1M count=4800 status=none
umount /run/memory
"""
DISK = """\
printf 'label: gpt\\nsize=256MiB,type=uefi\\ntype=lvm\\n' | sfdisk -q $disk
udevadm settle
mkfs.vfat -F 32 $disk-part1
pvcreate -q -y $disk-part2
vgcreate -q vgplain $disk-part2
lvcreate -q -y -W n -L {size}M -n root vgplain
cryptsetup luksFormat -q --type luks2 {pbkdf} --key-file {secret} /dev/vgplain/root
cryptsetup open --key-file {secret} /dev/vgplain/root plain
mkfs.ext4 -q /dev/mapper/plain
mount /dev/mapper/plain /mnt
mkdir -p /mnt/boot
mount $disk-part1 /mnt/boot
"""
PACMAN = """\
mkdir -p /mnt/var/lib/pacman /mnt/proc /mnt/sys /mnt/dev /mnt/run /mnt/tmp /mnt/etc
cp -r {packages}/lib/pacman/sync /mnt/var/lib/pacman/
mount -t proc proc /mnt/proc
mount --rbind /dev /mnt/dev
pacman --root /mnt --config {packages}/pacman.conf --cachedir {packages}/cache/pacman/pkg \\
    --noconfirm --noprogressbar -S {names}
tar -C /mnt -xf {packages}/makers.tar
umount -R /mnt/proc /mnt/dev
"""
HOOKS = """\
arch-chroot /mnt bash -ec '
systemd-sysusers
systemd-tmpfiles --create
systemd-hwdb --usr update
journalctl --update-catalog
systemd-machine-id-setup
depmod {release}
fc-cache -s
update-mime-database /usr/share/mime
gtk-update-icon-cache -q -f /usr/share/icons/hicolor
gtk-update-icon-cache -q -f /usr/share/icons/Adwaita
cd /usr/lib/x86_64-linux-gnu
gdk-pixbuf-2.0/gdk-pixbuf-query-loaders --update-cache
glib-2.0/glib-compile-schemas /usr/share/glib-2.0/schemas
'
"""
INITRD = """\
cp /mnt/usr/lib/modules/{release}/vmlinuz /mnt/boot/vmlinuz-linux
arch-chroot /mnt dracut --force --kver {release} --hostonly --add 'crypt lvm' \\
    --add-drivers 'virtio_blk nvme ahci sd_mod ext4' --compress 'zstd -T0 -q' /boot/initramfs-linux.img
"""
SETTINGS = """\
echo plain >/mnt/etc/hostname
echo KEYMAP=us >/mnt/etc/vconsole.conf
echo 'en_US.UTF-8 UTF-8' >/mnt/etc/locale.gen
arch-chroot /mnt locale-gen
echo LANG=en_US.UTF-8 >/mnt/etc/locale.conf
arch-chroot /mnt ln -sf /usr/share/zoneinfo/UTC /etc/localtime
arch-chroot /mnt useradd -m someone
echo 'someone:some words' | arch-chroot /mnt chpasswd
echo 'root:other words' | arch-chroot /mnt chpasswd
echo 'someone ALL=(ALL) ALL' >/mnt/etc/sudoers.d/00_someone
for unit in fstrim.timer systemd-timesyncd systemd-networkd systemd-resolved lightdm; do
    systemctl --root=/mnt enable $unit
done
genfstab -pU -f /mnt /mnt >>/mnt/etc/fstab
"""
LOADER = """\
arch-chroot /mnt bootctl --no-variables --esp-path=/boot install
mkdir -p /mnt/boot/loader/entries
cat >/mnt/boot/loader/entries/plain.conf <<END
title Plain
linux /vmlinuz-linux
initrd /initramfs-linux.img
options rd.luks.uuid=$(cryptsetup luksUUID /dev/vgplain/root) root=UUID=$(findmnt -no UUID /mnt) rw
END
printf 'default plain.conf\\ntimeout 15\\n' >/mnt/boot/loader/loader.conf
"""
CLOSE = """\
umount -R /mnt
cryptsetup close plain
vgchange -q -a n vgplain
sync
"""
PARTS = {
    "partitions, LVM, LUKS, mkfs": DISK,
    "pacman": PACMAN,
    "hooks of the packages": HOOKS,
    "initrd, by the kernel's hook": INITRD,
    "users, locale, services, fstab": SETTINGS,
    "initrd, with encryption and LVM": INITRD,
    "boot loader": LOADER,
    "unmounting, flushing": CLOSE,
}


def lay_programs(place: Path) -> None:
    """What neither the guest's system nor the stand-in has, from Debian's packages (fetched once)."""
    tree = cache_home() / "byhand-for-bench"
    with exclusive(tree.with_suffix(".lock"), "the tree of initrd makers", wait=True) as held:
        if not tree.is_dir():
            build_tree(tree, [*MAKERS, *LIVE], f"a tree with dracut (Debian {SUITE}, once)", held=held)
    for name, packages in (("makers.tar", MAKERS), ("live.tar", LIVE)):
        lists = [tree / f"var/lib/dpkg/info/{package}.list" for package in packages]
        paths = sorted({line for file in lists for line in file.read_text().splitlines()})
        files = [p for p in paths if not p.startswith(NOT_WANTED) and not (tree / p[1:]).is_dir()]
        wanted = "".join(f".{path}\n" for path in files if (tree / path[1:]).exists())
        run(
            [shutil.which("tar") or "tar", "-C", tree, "-cf", place / name, "-T", "-"], stdin=wanted.encode()
        )
