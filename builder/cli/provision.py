"""``seatsmith provision``: turn a disk into a seat, replace one environment, go back."""

from pathlib import Path
from typing import Annotated

import typer

from builder.cli.output import show
from builder.cli.seat import Descriptors, Files, Json, Keys
from builder.cli.shell_names import complete_seat

Seat = Annotated[
    str, typer.Argument(help="The seat's name: a file below profiles/seats/.", autocompletion=complete_seat)
]
Name = Annotated[str, typer.Argument(metavar="ENVIRONMENT", help="An environment of the seat.")]
Disk = Annotated[  # whether it can be read is told by what reads it, as exit code 6 and with what to do
    Path,
    typer.Option(
        "--disk",
        metavar="DISK|FILE",
        readable=False,
        help="The disk, by a name in /dev/disk/by-id, or a file.",
    ),
]
Yes = Annotated[bool, typer.Option("--yes", help="Ask nothing; needs --expect-serial.")]
Serial = Annotated[
    str | None,
    typer.Option("--expect-serial", metavar="ID", help="The disk must have this serial number, or WWN."),
]
Tests = Annotated[
    bool,
    typer.Option("--for-tests", help="Accept stand-in and unsigned images and cheap keys; files only."),
]
Recovery = Annotated[
    bool, typer.Option("--recovery-key", help="Make a recovery key for each new volume and show it once.")
]
Passwords = Annotated[
    list[str] | None,
    typer.Option(
        "--password-file",
        metavar="ENVIRONMENT:USER:FILE",
        help="A user's password, or a hash of it, from a file of mode 0600.",
    ),
]
Ask = Annotated[
    bool, typer.Option("--ask-passwords", help="Ask for passwords of root and of each user; Enter: none.")
]
Hostnames = Annotated[
    list[str] | None,
    typer.Option(
        "--hostname",
        metavar="ENVIRONMENT:NAME",
        help="Host name of an environment, kept from then on; by default the profile's.",
    ),
]
ReadAll = Annotated[
    bool,
    typer.Option(
        "--read-all", help="Read all of a large disk, which takes long, to know whether something is on it."
    ),
]
Size = Annotated[str | None, typer.Option(metavar="SIZE", help="Size of the new volume, such as 8GiB.")]

provision_app = typer.Typer(
    no_args_is_help=True, help="Turn a disk into a seat, replace one environment, go back."
)


def register(app: typer.Typer) -> None:
    for name, command in (
        ("plan", plan),
        ("apply", apply),
        ("env", env),
        ("add", add),
        ("grow", grow),
        ("remove", remove),
        ("rollback", rollback),
        ("drop", drop),
        ("status", status),
        ("enroll", enroll),
        ("header-save", header_save),
        ("header-restore", header_restore),
    ):
        provision_app.command(name)(command)
    app.add_typer(provision_app, name="provision")


def plan(
    seat: Seat, disk: Disk, serial: Serial = None, read_all: ReadAll = False, json: Json = False
) -> None:
    """Show what is on the disk, what would be written where, and what would be lost. Nothing is written."""
    from builder.cli.provision_show import plan_command

    data, text = plan_command(seat, disk, serial, read_all=read_all)
    show(data, text, as_json=json)


def status(disk: Disk, json: Json = False) -> None:
    """The environments on a seat's disk: their images, what one can go back to, what was interrupted."""
    from builder.cli.provision_show import status_command

    data, text = status_command(disk)
    show(data, text, as_json=json)


def apply(
    seat: Seat,
    disk: Disk,
    wipe: Annotated[
        str | None,
        typer.Option(metavar="FOUND-ID", help="Lose what is on the disk: the id that `plan` shows for it."),
    ] = None,
    read_all: ReadAll = False,
    yes: Yes = False,
    serial: Serial = None,
    passphrase_fd: Descriptors = None,
    passphrase_file: Files = None,
    password_file: Passwords = None,
    ask_passwords: Ask = False,
    hostname: Hostnames = None,
    recovery_key: Recovery = False,
    erase: Annotated[
        str, typer.Option(help="Old data of a disk: auto (discard, else dense), discard, dense or none.")
    ] = "auto",
    key: Keys = None,
    for_tests: Tests = False,
    json: Json = False,
) -> None:
    """Make a disk the seat. What is on it is lost; it must be agreed to by --wipe and the seat's name."""
    from builder.cli.provision_apply import apply_command

    data, text = apply_command(
        seat,
        disk,
        wipe=wipe,
        yes=yes,
        serial=serial,
        descriptors=passphrase_fd or [],
        files=passphrase_file or [],
        passwords=password_file or [],
        ask=ask_passwords,
        hostnames=hostname or [],
        recovery=recovery_key,
        erase=erase,
        keys=key,
        tests=for_tests,
        read_all=read_all,
    )
    show(data, text, as_json=json)


def env(
    name: Name,
    disk: Disk,
    size: Size = None,
    yes: Yes = False,
    serial: Serial = None,
    passphrase_fd: Descriptors = None,
    passphrase_file: Files = None,
    password_file: Passwords = None,
    ask_passwords: Ask = False,
    hostname: Hostnames = None,
    recovery_key: Recovery = False,
    key: Keys = None,
    for_tests: Tests = False,
    json: Json = False,
) -> None:
    """Replace one environment by the image in dist/, beside the present one; then switch.

    What the seat file lists under `keep:` is carried over. The others are not touched, and the present one
    stays for `provision rollback`. Interrupted, it is taken up by running it again.
    """
    from builder.cli.provision_apply import env_command

    data, text = env_command(
        name,
        disk,
        size=size,
        yes=yes,
        serial=serial,
        descriptors=passphrase_fd or [],
        files=passphrase_file or [],
        passwords=password_file or [],
        ask=ask_passwords,
        hostnames=hostname or [],
        recovery=recovery_key,
        keys=key,
        tests=for_tests,
        new=False,
    )
    show(data, text, as_json=json)


def add(
    name: Name,
    disk: Disk,
    size: Size = None,
    yes: Yes = False,
    serial: Serial = None,
    passphrase_fd: Descriptors = None,
    passphrase_file: Files = None,
    password_file: Passwords = None,
    ask_passwords: Ask = False,
    hostname: Hostnames = None,
    recovery_key: Recovery = False,
    key: Keys = None,
    for_tests: Tests = False,
    json: Json = False,
) -> None:
    """Add an environment that the seat file names and the disk lacks, with the size that it has there.

    Its hosts get the files that they need for it by the same commit, for which their passphrases are needed.
    """
    from builder.cli.provision_apply import env_command

    data, text = env_command(
        name,
        disk,
        size=size,
        yes=yes,
        serial=serial,
        descriptors=passphrase_fd or [],
        files=passphrase_file or [],
        passwords=password_file or [],
        ask=ask_passwords,
        hostnames=hostname or [],
        recovery=recovery_key,
        keys=key,
        tests=for_tests,
        new=True,
    )
    show(data, text, as_json=json)


def rollback(
    name: Name,
    disk: Disk,
    yes: Yes = False,
    serial: Serial = None,
    passphrase_fd: Descriptors = None,
    passphrase_file: Files = None,
    json: Json = False,
) -> None:
    """Go back to the previous environment, or undo a replacement that was interrupted.

    Nothing is copied: what was kept in the newer one stays there, and another rollback returns to it. Where
    hosts that are not in use had other files for it, these go back, too, by the hosts' passphrases.
    """
    from builder.cli.provision_change import change_command

    data, text = change_command(
        "rollback",
        name,
        disk,
        yes=yes,
        serial=serial,
        descriptors=passphrase_fd or [],
        files=passphrase_file or [],
    )
    show(data, text, as_json=json)


def drop(name: Name, disk: Disk, yes: Yes = False, serial: Serial = None, json: Json = False) -> None:
    """Give up the previous environment: its room becomes free, and its keys are overwritten."""
    from builder.cli.provision_change import change_command

    data, text = change_command("drop", name, disk, yes=yes, serial=serial)
    show(data, text, as_json=json)


def remove(
    name: Name,
    disk: Disk,
    yes: Yes = False,
    serial: Serial = None,
    passphrase_fd: Descriptors = None,
    passphrase_file: Files = None,
    json: Json = False,
) -> None:
    """Remove an environment and all of its data from the disk.

    What hosts have for it goes with it; of hosts that are not in use, by their passphrases.
    """
    from builder.cli.provision_change import change_command

    data, text = change_command(
        "remove",
        name,
        disk,
        yes=yes,
        serial=serial,
        descriptors=passphrase_fd or [],
        files=passphrase_file or [],
    )
    show(data, text, as_json=json)


def grow(
    name: Name,
    size: Annotated[str, typer.Argument(metavar="SIZE", help="The volume's new size, such as 80GiB.")],
    disk: Disk,
    yes: Yes = False,
    serial: Serial = None,
    json: Json = False,
) -> None:
    """Make an environment's volume larger; its filesystem then grows by systemd-growfs(8)."""
    from builder.cli.provision_change import change_command

    data, text = change_command("grow", name, disk, yes=yes, serial=serial, size=size)
    show(data, text, as_json=json)


def header_save(
    name: Name,
    disk: Disk,
    to: Annotated[Path, typer.Option("--to", metavar="FILE", help="The file to make; it must not exist.")],
    own_key: Annotated[
        bool,
        typer.Option(
            "--own-key", help="Encrypt it by a key of its own, shown once, not the volume's passphrase."
        ),
    ] = False,
    passphrase_fd: Descriptors = None,
    passphrase_file: Files = None,
    json: Json = False,
) -> None:
    """Keep a volume's LUKS2 header in a file, encrypted, for the day when the one on the disk is damaged."""
    from builder.cli.provision_headers import save_command

    data, text = save_command(
        name, disk, to, own_key=own_key, descriptors=passphrase_fd or [], files=passphrase_file or []
    )
    show(data, text, as_json=json)


def header_restore(
    name: Name,
    disk: Disk,
    source: Annotated[Path, typer.Option("--from", metavar="FILE", help="What header-save made.")],
    yes: Yes = False,
    serial: Serial = None,
    passphrase_fd: Descriptors = None,
    passphrase_file: Files = None,
    json: Json = False,
) -> None:
    """Put a saved LUKS2 header back; the passphrases are then those of that time."""
    from builder.cli.provision_headers import restore_command

    data, text = restore_command(
        name,
        disk,
        source,
        yes=yes,
        serial=serial,
        descriptors=passphrase_fd or [],
        files=passphrase_file or [],
    )
    show(data, text, as_json=json)


def enroll(
    name: Name,
    disk: Disk,
    tpm2: Annotated[
        str | None, typer.Option("--tpm2", metavar="DEVICE", help="A TPM2; `auto` finds the PC's own.")
    ] = None,
    fido2: Annotated[
        str | None, typer.Option("--fido2", metavar="DEVICE", help="A FIDO2 token; `auto` finds it.")
    ] = None,
    pcrs: Annotated[str, typer.Option(help="PCRs of the TPM2 that must be as they are now.")] = "7",
    pin_file: Annotated[
        str | None, typer.Option("--pin-file", metavar="FILE", help="The PIN, from a 0600 file.")
    ] = None,
    yes: Yes = False,
    serial: Serial = None,
    passphrase_fd: Descriptors = None,
    passphrase_file: Files = None,
    json: Json = False,
) -> None:
    """Let a TPM2 or a FIDO2 token open a volume too, beside its passphrase, until it is replaced."""
    from builder.cli.provision_headers import enroll_command

    data, text = enroll_command(
        name,
        disk,
        tpm2=tpm2,
        fido2=fido2,
        pcrs=pcrs,
        pin_file=pin_file,
        yes=yes,
        serial=serial,
        descriptors=passphrase_fd or [],
        files=passphrase_file or [],
    )
    show(data, text, as_json=json)
