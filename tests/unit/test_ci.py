"""Are the pipelines valid, is what they build decided rightly, and do their jobs run here as they are?"""

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from builder.ci import compare, matrix
from builder.errors import CheckFailed, InputError
from builder.localci import run_workflow
from builder.project import Project, find_project

ROOT = Path(__file__).parents[2]
WORKFLOW = ROOT / "ci/github/images.yml"
IDENTITY = ("-c", "user.name=test", "-c", "user.email=test@example.org", "-c", "commit.gpgsign=false")


def git(place: Path, *words: str) -> None:
    subprocess.run(["git", "-C", place, *IDENTITY, *words], check=True, capture_output=True)


@pytest.fixture
def checkout(tmp_path: Path) -> Project:
    """A repository with the shipped profiles, released as v1."""
    root = tmp_path / "checkout"
    (root / "profiles").mkdir(parents=True)
    for name in ("_desktop", "work", "private"):
        shutil.copy(ROOT / f"profiles/{name}.yaml", root / "profiles")
    (root / "mkosi.conf").write_text("")
    git(root, "init", "-q")
    git(root, "add", ".")
    git(root, "commit", "-q", "-m", "first")
    git(root, "tag", "v1")
    return Project(root, tmp_path / "cache", root / "dist")


@pytest.mark.parametrize(
    ("schema", "file", "more"),
    [
        ("vendor.github-workflows", WORKFLOW, []),
        ("vendor.gitlab-ci", ROOT / "ci/gitlab-ci.yml", ["--data-transform", "gitlab-ci"]),
    ],
    ids=["github", "gitlab"],
)
def test_a_pipeline_is_valid_by_its_own_schema(schema: str, file: Path, more: list[str]) -> None:
    check = Path(sys.executable).with_name("check-jsonschema")
    done = subprocess.run(
        [check, "--builtin-schema", schema, *more, file], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout


def test_every_action_is_pinned_by_a_commit_and_says_which_release_it_is() -> None:
    uses = [line for line in WORKFLOW.read_text().splitlines() if "uses:" in line]
    assert uses
    for line in uses:
        assert re.search(r"uses: [\w-]+/[\w-]+@[0-9a-f]{40} # v\d+\.\d+\.\d+$", line), line


def test_the_job_that_has_the_key_has_no_image_to_build_and_no_other_job_has_it() -> None:
    jobs = yaml.safe_load(WORKFLOW.read_text())["jobs"]
    with_key = [name for name, job in jobs.items() if "secrets." in str(job)]
    assert with_key == ["sign"]
    assert not any("make image" in str(step) for step in jobs["sign"]["steps"])


def test_every_make_goal_and_command_of_a_pipeline_exists() -> None:
    goals = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.M))
    for text in (WORKFLOW.read_text(), (ROOT / "ci/gitlab-ci.yml").read_text()):
        assert set(re.findall(r"(?:- |run: )make ([a-z-]+)", text)) <= goals
        for script in re.findall(r"\bci/[a-z]+$", text, re.M):
            assert (ROOT / script).stat().st_mode & 0o111


def test_without_a_change_since_the_release_nothing_is_built(checkout: Project) -> None:
    assert matrix(checkout) == []


def test_a_changed_profile_is_built_alone(checkout: Project) -> None:
    with (checkout.profiles / "work.yaml").open("a") as f:
        f.write("# changed\n")
    assert matrix(checkout) == ["work"]


@pytest.mark.parametrize("changed", ["profiles/_desktop.yaml", "mkosi.conf"])
def test_a_change_of_what_profiles_share_builds_all(checkout: Project, changed: str) -> None:
    with (checkout.root / changed).open("a") as f:
        f.write("# changed\n")
    assert matrix(checkout) == ["private", "work"]


def test_before_the_first_release_everything_is_built(checkout: Project) -> None:
    git(checkout.root, "tag", "-d", "v1")
    assert matrix(checkout) == ["private", "work"]


def test_an_unknown_revision_is_refused(checkout: Project) -> None:
    with pytest.raises(InputError, match="git knows no revision 'nonsense'"):
        matrix(checkout, "nonsense")


def sums(place: Path, image: str, paper: str = "0") -> Path:
    place.mkdir()
    lines = [f"{image * 64} *work_1_x86-64.tar.zst", f"{paper * 64} *manifest.json"]
    (place / "SHA256SUMS").write_text("\n".join(lines) + "\n")
    return place


def test_builders_agree_on_images_and_not_on_papers(tmp_path: Path) -> None:
    agreed = compare(sums(tmp_path / "a", "1", "2"), sums(tmp_path / "b", "1", "3"))
    assert agreed == {"work_1_x86-64.tar.zst": "1" * 64}


def test_builders_that_differ_are_named_with_both_digests(tmp_path: Path) -> None:
    with pytest.raises(CheckFailed, match=r"1{64} and 2{64}"):
        compare(sums(tmp_path / "a", "1"), sums(tmp_path / "b", "2"))


def test_a_result_without_an_image_cannot_be_compared(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="cannot read"):
        compare(tmp_path, tmp_path)


STEPS = """
env: {GREETING: hello}
jobs:
  choose:
    outputs: {names: "${{ steps.pick.outputs.names }}"}
    steps:
      - uses: actions/checkout@0
      - {id: pick, run: "echo 'names=[\\"a\\", \\"b\\"]' >> $GITHUB_OUTPUT"}
  build:
    needs: choose
    if: needs.choose.outputs.names != '[]'
    strategy: {matrix: {name: "${{ fromJSON(needs.choose.outputs.names) }}"}}
    steps:
      - uses: actions/checkout@0
      - run: test -e mkosi.conf && mkdir out && echo "$GREETING ${{ matrix.name }}" > out/${{ matrix.name }}
      - {uses: actions/upload-artifact@0, with: {name: "made-${{ matrix.name }}", path: out}}
  gather:
    steps:
      - uses: actions/checkout@0
      - {uses: actions/download-artifact@0, with: {pattern: "made-*", path: all}}
      - run: cat all/a all/b > $RESULT
  release:
    if: startsWith(github.ref, 'refs/tags/v')
    steps: [{run: "false"}]
"""


def test_jobs_run_here_with_matrix_outputs_and_artifacts(checkout: Project, tmp_path: Path) -> None:
    workflow, result = tmp_path / "flow.yml", tmp_path / "result"
    workflow.write_text(STEPS)
    run_workflow(checkout, workflow, only=[], extra={"RESULT": str(result)})
    assert result.read_text() == "hello a\nhello b\n"
    assert not (checkout.cache / "work/ci").exists()


def test_a_failing_step_ends_the_run_with_what_it_said(checkout: Project, tmp_path: Path) -> None:
    workflow = tmp_path / "flow.yml"
    workflow.write_text(
        "jobs: {one: {steps: [{uses: actions/checkout@0}, {run: 'echo oh no; false | cat'}]}}"
    )
    with pytest.raises(CheckFailed, match="oh no"):
        run_workflow(checkout, workflow, only=[], extra={})


def test_what_a_local_run_does_not_know_is_an_error(checkout: Project, tmp_path: Path) -> None:
    workflow = tmp_path / "flow.yml"
    workflow.write_text("jobs: {one: {steps: [{uses: somebody/else@0}]}}")
    with pytest.raises(InputError, match="somebody/else"):
        run_workflow(checkout, workflow, only=[], extra={})


def test_the_shipped_profiles_are_in_the_matrix() -> None:
    assert {"work", "private"} <= set(matrix(find_project(ROOT), "4b825dc642cb6eb9a060e54bf8d69288fbee4904"))
