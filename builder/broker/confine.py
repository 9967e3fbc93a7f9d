"""Starts a program that may not ask the kernel for certain things, and nor may any that it starts.

``python3 -m broker.confine VT TREE PROGRAM [ARGUMENT …]`` becomes PROGRAM. For strict containers that is
systemd-nspawn, which can refuse whole system calls; what is refused here are requests of ioctl(2), by which
a container that owns its terminal and its turn at the graphics card would learn of others. The rules are
seccomp(2)'s, made by libseccomp, and hold for 32-bit programs, too. TREE is the container's root, in which
no link may lead nspawn astray.
"""

import ctypes
import errno
import os
import platform
import sys
from dataclasses import dataclass
from pathlib import Path

LIBRARY = "libseccomp.so.2"
# seccomp.h of libseccomp: actions, attributes of a filter, ways to compare
ALLOW, REFUSE = 0x7FFF0000, 0x00050000
NO_NEW_PRIVILEGES = 3
NOT_EQUAL, MASKED_EQUAL = 1, 7
OTHER_ABIS = {"x86_64": (b"x86", b"x32"), "aarch64": (b"arm",)}

WRITES = 1 << 30  # _IOC_WRITE: the kernel reads the argument (asm-generic/ioctl.h)
NUMBER = 0xFF  # _IOC_NR
WHOLE = 0xFFFFFFFF


# Where nspawn, as the host's root, makes directories, nodes and files by path before it enters the tree
# (systemd 257): below a link it does so on the host, and writes into what the container has prepared there.
MADE_BELOW = ("dev", "proc", "run", "sys", "tmp", "var")


@dataclass(frozen=True)
class Rule:
    """Requests whose bits under ``mask`` are ``value`` fail with ``error``, or look obeyed where that is 0.

    ``but`` is the one argument with which they pass.
    """

    mask: int
    value: int
    error: int
    but: int | None = None


def of_graphics(number: int, *, but: int = 0) -> list[Rule]:
    """Requests to a graphics card, all but one. The kernel tells them apart by this number alone, whatever
    type and size the caller names (drm_ioctl.c); without WRITES it reads no argument."""
    fixed = WRITES | NUMBER
    refused = WRITES | number
    if not but:
        return [Rule(fixed, refused, errno.EACCES)]
    # all that differ from it in at least one of the other bits
    others = [1 << bit for bit in range(32) if not fixed >> bit & 1]
    return [Rule(fixed | bit, refused | (~but & bit), errno.EACCES) for bit in others]


# DRM's master is given the memory of every framebuffer by its number, whoever drew it (GETFB, GETFB2:
# drm_framebuffer.c), and buffers by names that are the same for all (GEM_OPEN: drm_gem.c). The last has the
# number of FIEMAP of cp(1) and dpkg(1), which the kernel answers before it looks for a card (fs/ioctl.c).
GETFB, GETFB2, GEM_OPEN, FIEMAP = 0xAD, 0xCE, 0x0B, 0xC020660B
# Any terminal tells which modifier keys are held, on whichever terminal that is (ioctl_console(2)).
TIOCLINUX = 0x541C
VT_ACTIVATE, VT_SETACTIVATE, KDSKBMODE, K_OFF = 0x5606, 0x560F, 0x4B45, 4
RULES = (
    *of_graphics(GETFB),
    *of_graphics(GETFB2),
    *of_graphics(GEM_OPEN, but=FIEMAP),
    Rule(WHOLE, TIOCLINUX, errno.EPERM),
    # Settings of text consoles that are the same for all of them: whoever owns one may change most
    # (vt_ioctl.c, keyboard.c). Keys, and accents that they put on letters:
    Rule(WHOLE, 0x4B47, errno.EPERM),  # KDSKBENT
    Rule(WHOLE, 0x4B49, errno.EPERM),  # KDSKBSENT
    Rule(WHOLE, 0x4B4B, errno.EPERM),  # KDSKBDIACR
    Rule(WHOLE, 0x4BFB, errno.EPERM),  # KDSKBDIACRUC
    # letters, which letter is which, and colours:
    Rule(WHOLE, 0x4B61, errno.EPERM),  # PIO_FONT
    Rule(WHOLE, 0x4B6C, errno.EPERM),  # PIO_FONTX
    Rule(WHOLE, 0x4B72, errno.EPERM),  # KDFONTOP
    Rule(WHOLE, 0x4B41, errno.EPERM),  # PIO_SCRNMAP
    Rule(WHOLE, 0x4B6A, errno.EPERM),  # PIO_UNISCRNMAP
    Rule(WHOLE, 0x4B67, errno.EPERM),  # PIO_UNIMAP
    Rule(WHOLE, 0x4B68, errno.EPERM),  # PIO_UNIMAPCLR
    Rule(WHOLE, 0x4B71, errno.EPERM),  # PIO_CMAP
    # and size:
    Rule(WHOLE, 0x5609, errno.EPERM),  # VT_RESIZE
    Rule(WHOLE, 0x560A, errno.EPERM),  # VT_RESIZEX
    # The broker opens the terminal that is shown, to turn its keyboard off and to leave it. The owner could
    # keep it out, as it is no administrator (tty_reopen in tty_io.c), or load another line discipline:
    Rule(WHOLE, 0x540C, 0),  # TIOCEXCL, which programs ask for their serial ports as well
    Rule(WHOLE, 0x5423, errno.EPERM),  # TIOCSETD
)


def of_terminals(vt: int) -> list[Rule]:
    """What the owner of terminal ``vt`` may not ask of it (ioctl_vt(2), ioctl_console(2)).

    The keys decide which terminal is shown, by the broker; a display server may ask for its own, as it does
    when it starts. And the keyboard of its console stays off (``ActiveTerminal.keys_off``): what would turn
    it on is passed over, since display servers do so when they end.
    """
    return [
        Rule(WHOLE, VT_ACTIVATE, errno.EPERM, but=vt),
        Rule(WHOLE, VT_SETACTIVATE, errno.EPERM),
        Rule(WHOLE, KDSKBMODE, 0, but=K_OFF),
    ]


class Comparison(ctypes.Structure):
    """struct scmp_arg_cmp."""

    _fields_ = (
        ("argument", ctypes.c_uint),
        ("way", ctypes.c_int),
        ("mask", ctypes.c_uint64),
        ("value", ctypes.c_uint64),
    )


def confine(vt: int) -> None:
    """Lay the rules on this process. Raises OSError where the kernel or libseccomp has none."""
    library = ctypes.CDLL(LIBRARY)
    library.seccomp_init.restype = ctypes.c_void_p
    rules = ctypes.c_void_p(library.seccomp_init(ctypes.c_uint32(ALLOW)))

    def ask(name: str, *words: object) -> None:
        result = getattr(library, name)(rules, *words)
        if result:
            raise OSError(-result, f"{name}: {os.strerror(-result)}")

    # set-uid programs have to work in the container, and the host's root may do without this
    ask("seccomp_attr_set", NO_NEW_PRIVILEGES, ctypes.c_uint32(0))
    for abi in OTHER_ABIS[platform.machine()]:
        ask("seccomp_arch_add", ctypes.c_uint32(library.seccomp_arch_resolve_name(abi)))
    ioctl = library.seccomp_syscall_resolve_name(b"ioctl")
    for rule in (*RULES, *of_terminals(vt)):
        comparisons = (Comparison * 2)(
            Comparison(1, MASKED_EQUAL, rule.mask, rule.value), Comparison(2, NOT_EQUAL, rule.but or 0, 0)
        )
        count = ctypes.c_uint(1 if rule.but is None else 2)
        action = ctypes.c_uint32(REFUSE | rule.error)
        ask("seccomp_rule_add_array", action, ioctl, count, comparisons)
    ask("seccomp_load")
    library.seccomp_release(rules)


def main(argv: list[str]) -> int:
    if platform.machine() not in OTHER_ABIS:
        print(f"nobody knows the system calls of {platform.machine()} here", file=sys.stderr)
        return 1
    tree, program = Path(argv[2]), argv[3:]
    for name in MADE_BELOW:
        if (tree / name).is_symlink():
            print(f"{program[0]} is not started, as /{name} is a link in {tree}: remove it", file=sys.stderr)
            return 1
    try:
        confine(int(argv[1]))
        os.execvp(program[0], program)
    except OSError as e:
        print(f"{program[0]} is not started, as it could not be confined: {e}", file=sys.stderr)
        return 1


if __name__ == "__main__":
    sys.exit(main(sys.argv))
