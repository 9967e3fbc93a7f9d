"""Are the pipelines valid, is what they build decided rightly, and do their jobs run here as they are?"""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from typer.main import get_command

from builder.ci import compare, gitlab_pipeline, matrix, sources
from builder.cli.ci import ci_app
from builder.errors import CheckFailed, InputError
from builder.localci import run_workflow
from builder.outputs.checksums import parse_checksums
from builder.project import Project, find_project
from builder.publish.diff import ImageDiff
from builder.publish.papers import copy_papers
from builder.renew import LIMIT, Renewal, summary
from tests.support.results import write_result

ROOT = Path(__file__).parents[2]
WORKFLOW = ROOT / "ci/github/images.yml"
WORKFLOWS = sorted((ROOT / "ci/github").glob("*.yml"))
GITLAB = ROOT / "ci/gitlab-ci.yml"
GITLAB_IMAGES = ROOT / "ci/gitlab/images.yml"
PIPELINES = [*WORKFLOWS, GITLAB, GITLAB_IMAGES]
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


def check_schema(schema: str, *words: str | Path) -> None:
    check = Path(sys.executable).with_name("check-jsonschema")
    done = subprocess.run(
        [check, "--builtin-schema", schema, *words], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout


def test_the_github_workflows_are_valid_by_their_schema() -> None:
    check_schema("vendor.github-workflows", *WORKFLOWS)


@pytest.mark.parametrize("names", [["work", "private"], []], ids=["two", "none"])
def test_the_gitlab_pipelines_are_valid_by_their_schema_completed_as_well(
    tmp_path: Path, names: list[str]
) -> None:
    made = tmp_path / "images.yml"
    made.write_text(gitlab_pipeline(GITLAB_IMAGES.read_text(), names, ["upstream", "standin"]))
    check_schema("vendor.gitlab-ci", "--data-transform", "gitlab-ci", GITLAB, made)


def test_the_gitlab_pipeline_builds_exactly_the_profiles_and_sources_of_the_matrix() -> None:
    jobs = yaml.safe_load(gitlab_pipeline(GITLAB_IMAGES.read_text(), ["work"], ["upstream", "standin"]))
    assert jobs[".image"]["parallel"] == {
        "matrix": [{"PROFILE": ["work"], "SOURCE": ["upstream", "standin"]}]
    }
    assert jobs["variables"]["RELEASED"] == "upstream"
    assert {name for name, job in jobs.items() if "extends" in job} == {"first", "second"}
    for name, job in ((n, j) for n, j in jobs.items() if isinstance(j, dict)):
        needs = [n if isinstance(n, str) else n["job"] for n in job.get("needs", [])]
        assert set(needs) <= set(jobs), name


def test_every_action_is_pinned_by_a_commit_and_says_which_release_it_is() -> None:
    uses = [line for path in WORKFLOWS for line in path.read_text().splitlines() if "uses:" in line]
    assert uses
    for line in uses:
        assert re.search(r"uses: [\w-]+/[\w-]+@[0-9a-f]{40} # v\d+\.\d+\.\d+$", line), line


def test_the_job_that_has_the_key_has_no_image_to_build_and_no_other_job_has_it() -> None:
    jobs = yaml.safe_load(WORKFLOW.read_text())["jobs"]
    assert [name for name, job in jobs.items() if "RELEASE_KEY" in str(job)] == ["sign"]
    assert [name for name, job in jobs.items() if "secrets." in str(job)] == ["sign", "publish"]
    assert not any("make image" in str(job) for job in (jobs["sign"], jobs["publish"]))
    fetched = [str(s["with"]) for s in jobs["sign"]["steps"] if "download" in s.get("uses", "")]
    assert len(fetched) == 1 and "papers-*" in fetched[0]


@pytest.mark.parametrize(
    ("path", "line", "found"),
    [
        ("tidy", "#!/bin/sh\nrm $1\n", "SC2086"),
        ("tidy.bash", "rm $1\n", "SC2086"),
        ("ci/github/gate.yml", "      - run: ls ${{ github.head_ref }}\n", "template-injection"),
        ("ci/github/gate.yml", "      - run: rm $HOME\n", "SC2086"),
        ("ci/github/gate.yml", "      - run: ls ${{ steps.none.outputs.x }}\n", "undefined-property"),
    ],
)
def test_the_linters_see_what_is_wrong_with_a_script_or_workflow(
    tmp_path: Path, path: str, line: str, found: str
) -> None:
    (tmp_path / "ci/github").mkdir(parents=True)
    shutil.copy(ROOT / "ci/lint", tmp_path / "ci")
    shutil.copy(ROOT / "ci/github/gate.yml", tmp_path / "ci/github")
    with (tmp_path / path).open("a") as f:
        f.write(line)
    git(tmp_path, "init", "-q")
    git(tmp_path, "add", ".")
    env = {**os.environ, "VENV": str(Path(sys.executable).parents[1])}
    done = subprocess.run([tmp_path / "ci/lint"], env=env, capture_output=True, text=True, check=False)
    assert done.returncode != 0
    assert found in done.stdout


def test_every_make_goal_and_command_of_a_pipeline_exists() -> None:
    goals = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.M))
    commands = set(get_command(ci_app).commands)  # type: ignore[attr-defined]
    for text in (path.read_text() for path in PIPELINES):
        assert set(re.findall(r"(?:- |run: )make ([a-z-]+)", text)) <= goals
        assert set(re.findall(r"seatsmith ci ([a-z]+)", text)) <= commands
        for script in re.findall(r"(?:- |run: )(ci/[a-z]+)", text):
            assert (ROOT / script).stat().st_mode & 0o111


@pytest.fixture
def after(checkout: Project) -> Project:
    """The checkout one commit after its release."""
    git(checkout.root, "commit", "-q", "--allow-empty", "-m", "more")
    return checkout


def test_without_a_change_since_the_release_nothing_is_built(after: Project) -> None:
    assert matrix(after) == []


def test_a_release_builds_what_changed_since_the_one_before(checkout: Project) -> None:
    assert matrix(checkout) == ["private", "work"], "the first"
    with (checkout.profiles / "work.yaml").open("a") as f:
        f.write("# changed\n")
    git(checkout.root, "commit", "-q", "-a", "-m", "second")
    git(checkout.root, "tag", "v2")
    assert matrix(checkout) == ["work"]


def test_a_changed_profile_is_built_alone(after: Project) -> None:
    checkout = after
    with (checkout.profiles / "work.yaml").open("a") as f:
        f.write("# changed\n")
    assert matrix(checkout) == ["work"]


@pytest.mark.parametrize("changed", ["profiles/_desktop.yaml", "mkosi.conf"])
def test_a_change_of_what_profiles_share_builds_all(after: Project, changed: str) -> None:
    checkout = after
    with (checkout.root / changed).open("a") as f:
        f.write("# changed\n")
    assert matrix(checkout) == ["private", "work"]


def test_before_the_first_release_everything_is_built(checkout: Project) -> None:
    git(checkout.root, "tag", "-d", "v1")
    assert matrix(checkout) == ["private", "work"]


def test_a_run_can_be_narrowed_to_some_profiles_and_to_none_that_is_not_there(checkout: Project) -> None:
    assert matrix(checkout, only=["work"]) == ["work"]
    with pytest.raises(InputError, match="no profile is named 'wrk'") as refused:
        matrix(checkout, only=["work", "wrk"])
    assert "private, work" in str(refused.value.hint)


def test_the_sources_of_a_run_are_those_that_it_names_or_auto() -> None:
    assert sources("") == ["auto"]
    assert sources("upstream standin upstream") == ["upstream", "standin"]
    with pytest.raises(InputError, match="no source is named 'archive'"):
        sources("standin archive")


def test_an_unknown_revision_is_refused(checkout: Project) -> None:
    with pytest.raises(InputError, match="git knows no revision 'nonsense'"):
        matrix(checkout, "nonsense")


def sums(place: Path, image: str, paper: str = "0") -> Path:
    return write_sums(place, "work", image, paper)


def write_sums(place: Path, name: str, image: str, paper: str = "0") -> Path:
    place.mkdir()
    lines = [f"{image * 64} *{name}_1_x86-64.tar.zst", f"{paper * 64} *manifest.json"]
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


def test_several_results_are_compared_at_once(tmp_path: Path) -> None:
    for builder in ("first", "second"):
        (tmp_path / builder).mkdir()
        for number, name in enumerate(("work", "private"), 1):
            write_sums(tmp_path / builder / name, name, str(number))
    agreed = compare(tmp_path / "first", tmp_path / "second")
    assert agreed == {"work_1_x86-64.tar.zst": "1" * 64, "private_1_x86-64.tar.zst": "2" * 64}
    shutil.rmtree(tmp_path / "second/private")
    with pytest.raises(CheckFailed, match=r"private_\S+: 2{64} and missing"):
        compare(tmp_path / "first", tmp_path / "second")


def test_papers_are_a_result_without_its_images(tmp_path: Path) -> None:
    write_result(tmp_path / "work")
    (tmp_path / "work/unlisted").write_text("x")
    copied = copy_papers(tmp_path / "work", tmp_path / "papers")
    assert sorted(copied) == sorted(p.name for p in (tmp_path / "papers").iterdir())
    listed = parse_checksums((tmp_path / "papers/SHA256SUMS").read_bytes())
    assert set(listed) - set(copied) == {
        "work_2026.11.01_x86-64.tar.zst",
        "work_2026.11.01_x86-64.host.tar.zst",
    }


def test_the_summary_of_renewed_locks_fits_into_a_change() -> None:
    same = Renewal("private", "2026-11-01", "2026-11-08", None)
    many = ImageDiff("old", "new")
    text = summary([same, Renewal("work", "2026-11-01", "2026-11-08", many)])
    assert "## private: 2026-11-01 → 2026-11-08\n\nThe same packages" in text
    assert "old → new" in text
    long = summary([Renewal(f"work{n}", "a", "b", ImageDiff("x" * 999, "y")) for n in range(99)])
    assert LIMIT < len(long) < LIMIT + 200 and long.endswith("have all.\n")


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
    needs: [choose, build]
    steps:
      - uses: actions/checkout@0
      - {uses: actions/download-artifact@0, with: {pattern: "made-*", path: all}}
      - run: cat all/a all/b > $RESULT
  release:
    if: startsWith(github.ref, 'refs/tags/v')
    steps:
      - uses: actions/checkout@0
      - {run: 'echo "$KEY$RELEASE_OPTIONS" > $RESULT', env: {KEY: "${{ secrets.RELEASE_KEY }}"}}
"""


def test_jobs_run_here_with_matrix_outputs_and_artifacts(checkout: Project, tmp_path: Path) -> None:
    workflow, result = tmp_path / "flow.yml", tmp_path / "result"
    workflow.write_text(STEPS)
    took = run_workflow(checkout, workflow, only=[], extra={"RESULT": str(result)}, keep=tmp_path / "kept")
    assert [title for title, _ in took] == ["choose", "build a", "build b", "gather"]
    assert (tmp_path / "kept/made-a/a").read_text() == "hello a\n"
    assert result.read_text() == "hello a\nhello b\n"
    assert not (checkout.cache / "work/ci").exists()


def test_what_needs_a_job_that_was_left_out_is_left_out_too(checkout: Project, tmp_path: Path) -> None:
    """As on GitHub: without a change there is no image, so that nothing can be compared or signed."""
    workflow = tmp_path / "flow.yml"
    workflow.write_text(STEPS.replace('[\\"a\\", \\"b\\"]', "[]"))
    took = run_workflow(checkout, workflow, only=[], extra={"RESULT": str(tmp_path / "result")})
    assert [title for title, _ in took] == ["choose"]


def test_every_job_has_a_clean_clone_of_the_commit_that_the_run_began_with(
    checkout: Project, tmp_path: Path
) -> None:
    workflow = tmp_path / "flow.yml"
    more = (
        f"git -C {checkout.root} -c user.name=t -c user.email=t@example.org commit -q --allow-empty -m more"
    )
    job = (
        "{uses: actions/checkout@0}, {run: 'git status --short >>$RESULT; git rev-parse HEAD >>$RESULT; %s'}"
    )
    workflow.write_text(f"jobs: {{one: {{steps: [{job % more}]}}, two: {{steps: [{job % 'true'}]}}}}")
    run_workflow(checkout, workflow, only=[], extra={"RESULT": str(tmp_path / "result")})
    first, second = (tmp_path / "result").read_text().splitlines()
    assert first == second


def test_what_make_was_given_for_the_whole_run_is_not_given_to_each_job(
    checkout: Project, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    workflow, goals = tmp_path / "flow.yml", tmp_path / "goals.mk"
    goals.write_text('all:\n\t@echo "$(ARGS)|$(SEAT)|$(OTHER)" >said\n')
    steps = f"[{{uses: actions/checkout@0}}, {{run: 'make -f {goals} SEAT=demo && mv said $RESULT'}}]"
    workflow.write_text(f"jobs: {{one: {{steps: {steps}}}}}")
    monkeypatch.setenv("MAKEFLAGS", r" -- ARGS=--release PROFILES=work\ OTHER=private")
    for name, value in (("ARGS", "--release"), ("PROFILES", "work OTHER=private"), ("OTHER", "kept")):
        monkeypatch.setenv(name, value)
    run_workflow(checkout, workflow, only=[], extra={"RESULT": str(tmp_path / "result")})
    assert (tmp_path / "result").read_text() == "|demo|kept\n"


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
