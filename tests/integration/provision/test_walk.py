"""Does a seat stay whole over a long series of changes, half of them interrupted?"""

from pathlib import Path

import pytest

from builder.tools import Tools
from tests.support.gpgkeys import TestKey
from tests.support.provisionwalk import Walk, make_bench


@pytest.mark.parametrize(
    ("seed", "steps"), [(1, 8), *(pytest.param(seed, 60, marks=pytest.mark.long) for seed in range(2, 8))]
)
def test_a_seat_stays_whole_over_any_series_of_changes(
    seed: int, steps: int, tools: Tools, release: TestKey, tmp_path: Path
) -> None:
    walk = Walk(make_bench(tmp_path, release, tools), seed)
    try:
        for _ in range(steps):
            walk.step()
    except BaseException:
        print("\n".join(walk.story))
        raise
    print(f"\n{steps} changes: {dict(walk.tally)}")
