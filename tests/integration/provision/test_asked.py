"""Does a run that was interrupted behind the switch do what is asked for now, and no more than that?"""

from dataclasses import replace

import pytest

from builder.provision.job import Job, Report
from builder.provision.replace import replace_environment
from builder.volume.medium import Medium
from builder.volume.xts import Written
from tests.integration.provision.test_contents import HASH, files
from tests.support.faults import PowerCut
from tests.support.provisioned import Bench, MakeMedium


class BeforeTheEnd(Medium):
    """Stops where only the journal's last word is missing."""

    def write(self, offset: int, data: bytes | bytearray | memoryview) -> Written:
        if b'"step": "done"' in bytes(data[:4096]):
            raise PowerCut
        return super().write(offset, data)


def run(bench: Bench, make: MakeMedium = Medium, **given: object) -> Report:
    with bench.opened(make) as disk, bench.empty_scratch() as scratch:
        job: Job = replace(bench.job("work", bench.image("work")), **given)  # type: ignore[arg-type]
        return replace_environment(disk, job, tools=bench.tools, scratch=scratch)


@pytest.fixture
def cut(bench: Bench) -> Bench:
    """A disk where the replacement by version 2, with a password and a host name, lacks its end."""
    bench.new_image("work", "2")
    with pytest.raises(PowerCut):
        run(bench, BeforeTheEnd, passwords={"user": HASH}, hostname="desk")
    return bench


@pytest.mark.parametrize(
    "given",
    [{}, {"passwords": {"user": "$6$other$salt"}, "hostname": "desk"}, {"old": False, "extents": 32}],
)
def test_the_same_command_again_only_finishes(given: dict[str, object], cut: Bench) -> None:
    assert run(cut, **given).resumed == "switched"
    with cut.opened() as disk:
        assert disk.tags("work.previous")["image"] == "1"
        assert disk.journal.unfinished is None


@pytest.mark.parametrize(
    "given",
    [{"hostname": "table"}, {"passwords": {"root": HASH}}, {"keep": ("/etc/shadow",)}, {"extents": 34}],
)
def test_what_else_is_asked_for_now_is_done(given: dict[str, object], cut: Bench) -> None:
    assert run(cut, **given).resumed is None
    name, shadow = files(cut, "etc/hostname", "etc/shadow")
    assert name == (b"table\n" if "hostname" in given else b"desk\n")
    assert f"user:{HASH}:".encode() in shadow
    assert (f"root:{HASH}:".encode() in shadow) is ("passwords" in given)
    with cut.opened() as disk:
        assert disk.volume("work").extents == given.get("extents", 32)
