"""Does a replaced host's new root have for its containers what their volumes say it has?"""

import pytest

from tests.integration.provision.test_hostroots import (
    are_in,
    check_root,
    isolate,
    roll_back,
    root_of,
    wanted,
)
from tests.support.faults import CutAfter, PowerCut
from tests.support.provisioned import Bench
from tests.support.tinyseat import PASSPHRASE

SAID = (
    "the files that private has for work follow its profile as it is now; its volume is older: "
    "seatsmith provision env work"
)


def test_a_container_that_is_older_than_its_hosts_files_is_named_and_its_next_followed(bench: Bench) -> None:
    strict = wanted(bench)
    bench.replace("work", isolate(bench, "shared").image("work"))
    roll_back(bench, "work", private=PASSPHRASE)
    assert are_in(strict, root_of(bench))
    assert SAID in bench.replace("private", bench.image("private")).hosts
    assert are_in(wanted(bench), root_of(bench))
    assert SAID not in bench.replace("private", bench.image("private")).hosts
    bench.replace("work", isolate(bench, "strict").image("work"))  # as the older volume was
    assert are_in(strict, root_of(bench))
    check_root(bench)


@pytest.mark.parametrize("step", ["verified", "switching"])
def test_an_interrupted_switch_of_a_host_says_nothing_that_is_not_so(step: str, bench: Bench) -> None:
    bench.replace("work", isolate(bench, "shared").image("work"))
    with pytest.raises(PowerCut):
        bench.replace("private", bench.image("private"), lambda fd, path: CutAfter(fd, path, step=step))
    isolate(bench, "strict")
    bench.replace("private", bench.image("private"))
    bench.replace("work", bench.image("work"))
    assert are_in(wanted(bench), root_of(bench))
    check_root(bench)
