"""``seatsmith installer``: make the stick that turns a bare PC into a seat; and what runs on it."""

from pathlib import Path
from typing import Annotated

import typer

from builder.cli.output import show
from builder.cli.seat import Json, Keys
from builder.cli.shell_names import complete_seat

Seat = Annotated[
    str, typer.Argument(help="The seat's name: a file below profiles/seats/.", autocompletion=complete_seat)
]

installer_app = typer.Typer(no_args_is_help=True, help="The stick that turns a bare PC into a seat.")


def register(app: typer.Typer) -> None:
    installer_app.command("build")(build)
    installer_app.command("run")(run)
    installer_app.command("try")(try_it)
    app.add_typer(installer_app, name="installer")


def build(
    seat: Seat,
    answers: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Answers to sign with it: an unattended installer.")
    ] = None,
    no_images: Annotated[
        bool, typer.Option("--no-images", help="Leave the images away: the answers have a `url:`.")
    ] = False,
    secure_boot_key: Annotated[
        Path | None, typer.Option(metavar="PEM", help="Sign the UKI for Secure Boot with this key.")
    ] = None,
    secure_boot_certificate: Annotated[
        Path | None, typer.Option(metavar="PEM", help="The certificate that firmware has of it.")
    ] = None,
    to: Annotated[
        Path | None, typer.Option(metavar="DIRECTORY", help="Default: dist/installers/SEAT.")
    ] = None,
    key: Keys = None,
    json: Json = False,
) -> None:
    """Make UKI and stick of a seat's installer from dist/installer and the seat's images, and sign them."""
    from builder.cli.installer_build import build_command

    data, text = build_command(
        seat,
        answers,
        with_images=not no_images,
        secure_boot=(secure_boot_key, secure_boot_certificate),
        to=to,
        keys=key,
    )
    show(data, text, as_json=json)


def run(
    stick: Annotated[Path, typer.Option(metavar="DIRECTORY", help="Where the stick is mounted.")],
    disk: Annotated[
        list[Path] | None,
        typer.Option(
            metavar="DISK|FILE",
            readable=False,
            help="Offer only these disks (default: all of this machine).",
        ),
    ] = None,
    power: Annotated[
        bool, typer.Option("--power", help="Restart or switch off this machine at the end.")
    ] = False,
) -> None:
    """Provision the seat that the installer is for: what its stick does after it was started."""
    from builder.cli.installer_run import run_command

    run_command(stick, disk, power=power)


def try_it(
    seat: Seat,
    quick: Annotated[bool, typer.Option("--quick", help="Of the boot test, only the quick checks.")] = False,
    key: Keys = None,
    json: Json = False,
) -> None:
    """From nothing, in QEMU: the stick makes an empty disk the seat; that is boot-tested. See the report."""
    from builder.cli.installer_build import try_command

    data, text, ok = try_command(seat, quick=quick, keys=key)
    show(data, text, as_json=json)
    if not ok:
        raise typer.Exit(1)
