"""``seatsmith seat``: plan a seat's disk, write it, and read one back."""

from pathlib import Path
from typing import Annotated

import typer

from builder.cli.output import show
from builder.cli.shell_names import complete_seat

Name = Annotated[
    str, typer.Argument(help="The seat's name: a file below profiles/seats/.", autocompletion=complete_seat)
]
Json = Annotated[bool, typer.Option("--json", help="Print the result as JSON.")]
Keys = Annotated[
    list[Path] | None,
    typer.Option("--key", help="Trusted public key file or directory of them (default: ci/keys/)."),
]
Descriptors = Annotated[
    list[str] | None,
    typer.Option("--passphrase-fd", metavar="[NAME:]N", help="Read the passphrase from a file descriptor."),
]
Files = Annotated[
    list[str] | None,
    typer.Option("--passphrase-file", metavar="[NAME:]FILE", help="Read it from a file of mode 0600."),
]

seat_app = typer.Typer(no_args_is_help=True, help="Seats: plan a disk, write it, read it back.")


def register(app: typer.Typer) -> None:
    seat_app.command("list")(list_seats)
    seat_app.command("profiles")(profiles)
    seat_app.command("plan")(plan)
    seat_app.command("write")(write)
    seat_app.command("inspect")(inspect)
    app.add_typer(seat_app, name="seat")


def list_seats(json: Json = False) -> None:
    """The seats of this checkout."""
    from builder.project import find_project
    from builder.seat.load import seat_names

    names = seat_names(find_project())
    show(names, "\n".join(names), as_json=json)


def profiles(name: Name, json: Json = False) -> None:
    """The profiles whose images the seat is written from."""
    from builder.project import find_project
    from builder.seat.load import load_seat

    seat = load_seat(find_project(), name)
    names = sorted({seat.profile_of(environment) for environment in seat.environments})
    show(names, "\n".join(names), as_json=json)


def plan(
    name: Name,
    json: Json = False,
    svg: Annotated[Path | None, typer.Option(metavar="FILE", help="Draw the disk into an SVG file.")] = None,
) -> None:
    """Show what lies where on the seat's disk: offsets, sizes, ids, boot menu. No disk is touched."""
    from builder.files import write_atomic
    from builder.project import find_project
    from builder.seat.images import find_image
    from builder.seat.plan import load_plan
    from builder.seat.show import as_data, as_svg, as_text

    project = find_project()
    made, _, _ = load_plan(project, name)
    images = {e.name: find_image(project, e.profile) for e in made.environments}
    if svg is not None:
        write_atomic(svg, as_svg(made))
    lines = ["", "Images"]
    for environment in made.environments:
        image = images[environment.name]
        state = f"{image.tar.name}" if image else f"not built; run: make image PROFILE={environment.profile}"
        lines.append(f"  {environment.name}: {state}")
    data = as_data(made) | {"images": {n: i.tar if i else None for n, i in images.items()}}
    show(data, as_text(made) + "\n".join(["", *lines]), as_json=json)


def write(
    name: Name,
    target: Annotated[
        Path | None,
        typer.Option(metavar="FILE|DISK", readable=False, help="Default: dist/seats/NAME/NAME.img."),
    ] = None,
    passphrase_fd: Descriptors = None,
    passphrase_file: Files = None,
    separate: Annotated[
        bool, typer.Option("--separate-passphrases", help="Ask for one passphrase for each volume.")
    ] = False,
    test_passphrase: Annotated[
        bool,
        typer.Option("--test-passphrase", help="Make one up, leave it beside the image (tests)."),
    ] = False,
    recovery_key: Annotated[
        bool, typer.Option("--recovery-key", help="Add a recovery key to each volume and show it once.")
    ] = False,
    erase: Annotated[
        str, typer.Option(help="Old data of a disk: auto (discard, else dense), discard, dense or none.")
    ] = "auto",
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Lose everything that the target holds.")
    ] = False,
    key: Keys = None,
    json: Json = False,
) -> None:
    """Write the seat to an image file or a disk, from the images in dist/, without root or device-mapper.

    The passphrase comes from --passphrase-fd, --passphrase-file, a credential (seatsmith.passphrase), or is
    asked for; never from the command line.
    """
    from builder.cli.seat_write import write_seat_command

    result = write_seat_command(
        name,
        target,
        descriptors=passphrase_fd or [],
        files=passphrase_file or [],
        separate=separate,
        test_passphrase=test_passphrase,
        recovery=recovery_key,
        erase=erase,
        overwrite=overwrite,
        keys=key,
    )
    show(result.data, result.text, as_json=json)


def inspect(
    image: Annotated[
        Path, typer.Argument(metavar="FILE|DISK", readable=False, help="A disk, or an image of one.")
    ],
    seat: Annotated[
        str | None, typer.Option(help="Compare with this seat's plan (default: the seat it says it is).")
    ] = None,
    passphrase_fd: Descriptors = None,
    passphrase_file: Files = None,
    files: Annotated[bool, typer.Option("--files", help="List every file (needs the passphrase).")] = False,
    digests: Annotated[
        bool, typer.Option("--digests", help="With --files: read every file and show its SHA-256.")
    ] = False,
    json: Json = False,
) -> None:
    """Read a seat's disk without device-mapper and compare it with the plan; exit code 1 if it differs."""
    from builder.cli.seat_inspect import inspect_command

    result = inspect_command(
        image,
        seat,
        descriptors=passphrase_fd or [],
        files=passphrase_file or [],
        list_files=files or digests,
        digests=digests,
    )
    show(result.data, result.text, as_json=json)
    if not result.ok:
        raise typer.Exit(1)
