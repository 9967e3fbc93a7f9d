"""How do the agent, passwords and keys of a test reach a guest whose image knows nothing of them?

By systemd's system credentials (systemd.system-credentials(7), CREDENTIALS.md): SMBIOS type 11 strings that
PID 1 reads, in the initrd and in the host alike. A unit of our own comes the same way
(``systemd.extra-unit.*``, systemd-debug-generator(8), systemd 256 and newer).
"""

import base64
from dataclasses import dataclass
from importlib import resources
from pathlib import Path

from builder.machine.agent import PORT

UNIT = "seatsmith-agent.service"
SCRIPT = "seatsmith.agent"


@dataclass(frozen=True)
class Credential:
    name: str
    value: str


def agent_credentials() -> list[Credential]:
    """The command agent: its unit, its script, and what starts it early in the real root."""
    script = resources.files("builder.machine").joinpath("guest_agent.bash").read_text()
    code = "\n".join(line for line in script.splitlines() if not line.lstrip().startswith("#"))
    unit = f"""\
[Unit]
Description=Commands of a boot test
DefaultDependencies=no
ConditionPathExists=!/etc/initrd-release
After=systemd-udevd.service
StartLimitIntervalSec=0
[Service]
LoadCredential={SCRIPT}
ExecStart=/bin/bash ${{CREDENTIALS_DIRECTORY}}/{SCRIPT} /dev/virtio-ports/{PORT}
Restart=always
RestartSec=1
KillMode=process
"""
    return [
        Credential(f"systemd.extra-unit.{UNIT}", unit),
        Credential("systemd.unit-dropin.sysinit.target", f"[Unit]\nWants={UNIT}\n"),
        Credential(SCRIPT, code),
    ]


def smbios_arguments(credentials: list[Credential], folder: Path) -> list[str]:
    """QEMU arguments that hand over the credentials, by files: no secret gets into a process list."""
    words = []
    for number, credential in enumerate(credentials):
        path = folder / f"credential-{number}"
        encoded = base64.b64encode(credential.value.encode()).decode()
        path.write_text(f"io.systemd.credential.binary:{credential.name}={encoded}")
        path.chmod(0o600)
        words += ["-smbios", f"type=11,path={path}"]
    return words


def stub_arguments(extra: str) -> list[str]:
    """QEMU arguments that lengthen a UKI's kernel command line (systemd-stub(7))."""
    return ["-smbios", f"type=11,value=io.systemd.stub.kernel-cmdline-extra={extra.replace(',', ',,')}"]
