"""What is the smallest image that systemd-nspawn starts? One static program, and who it is."""

import io
import tarfile
from pathlib import Path

import zstandard

from builder.outputs.record import ImageRecord
from builder.project import Project
from builder.tools import Tools
from tests.support.results import EPOCH, package, write_result
from tests.support.tinyseat import directory, file

FOLDERS = ("bin", "sbin", "usr", "usr/lib", "etc", "etc/lightdm", "dev", "proc", "sys", "run", "tmp", "root")
INIT = """\
#!/bin/busybox sh
# 37 is SIGRTMIN+3, by which systemd-nspawn has a container shut down
trap 'exit 0' 37
echo {version} > /started
while :; do /bin/busybox sleep 1 & wait; done
"""
SHADOW = "root:*:20000:0:99999:7:::\nuser:!*:20000::::::\n"


def put_small_container(
    project: Project, profile: str, version: str, tools: Tools, *, uki: bytes | None = None
) -> None:
    """Leave an image of stand-in packages in ``dist/PROFILE``, unsigned; with a kernel it can be a host."""
    assert tools.root is not None
    contents = {
        "bin/busybox": (tools.root / "usr/bin/busybox").read_bytes(),
        "sbin/init": INIT.format(version=version).encode(),
        "usr/lib/os-release": f"ID=small\nVERSION_ID={version}\n".encode(),
        "etc/machine-id": b"",
        "etc/passwd": b"root:x:0:0::/root:/bin/sh\nuser:x:1000:1000::/home/user:/bin/sh\n",
        "etc/shadow": SHADOW.encode(),
    }
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.PAX_FORMAT) as tar:
        for name in (".", *(f"./{folder}" for folder in FOLDERS), "./home"):
            tar.addfile(directory(name))
        tar.addfile(directory("./var"))
        for name, data in contents.items():
            member = file(f"./{name}", mode=0o755 if name.split("/")[0] in ("bin", "sbin") else 0o644)
            member.size = len(data)
            tar.addfile(member, io.BytesIO(data))
    record = ImageRecord(
        profile=profile,
        version=f"{version}-standin",
        distribution="arch",
        source="standin",
        epoch=EPOCH,
        packages=[package("busybox")],
        tools={"mkosi": "25.3-1"},
    )
    place: Path = project.dist / profile
    write_result(place, record, image=zstandard.ZstdCompressor().compress(buffer.getvalue()), uki=uki)
