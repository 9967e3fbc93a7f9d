"""Do the scripts of the pipelines sign papers alone, keep the key to themselves, and publish the outcome?"""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from builder.localci import run_workflow
from builder.outputs.provenance import GitState, git_state
from builder.outputs.verify import verify_directory
from builder.project import Project
from builder.publish.papers import copy_papers
from builder.publish.pull import Policy, pull
from builder.tools import Tools
from tests.support.gpgkeys import TestKey
from tests.support.results import record, write_result

pytestmark = pytest.mark.tools

ROOT = Path(__file__).parents[2]
IDENTITY = ("-c", "user.name=test", "-c", "user.email=test@example.org", "-c", "commit.gpgsign=false")
STANDIN = record(version="2026.11.01-standin", source="standin")


@pytest.fixture
def checkout(tmp_path: Path, release: TestKey) -> Path:
    """A clone with the scripts and the release key, as a pipeline has it."""
    root = tmp_path / "checkout"
    (root / "ci/keys").mkdir(parents=True)
    (root / "profiles").mkdir()
    (root / "mkosi.conf").write_text("")
    (root / ".gitignore").write_text("dist\npapers\nsite\nseen\n")
    for name in ("sign", "publish", "propose"):
        shutil.copy2(ROOT / "ci" / name, root / "ci")
    shutil.copy(release.public, root / "ci/keys")
    for words in (["init", "-q"], ["add", "."], ["commit", "-q", "-m", "first"]):
        subprocess.run(["git", "-C", root, *IDENTITY, *words], check=True)
    return root


def built(checkout: Path, **what: object) -> None:
    """What the image jobs leave: the first builder's image, and both builders' papers."""
    state = git_state(checkout)
    for builder in ("first", "second"):
        place = checkout / "dist/work" if builder == "first" else checkout.parent / "second/work"
        write_result(place, what.get("record"), git=GitState(state.commit, False))  # type: ignore[arg-type]
        copy_papers(place, checkout / f"papers/{builder}/work")


def run(checkout: Path, *words: str, **env: str) -> subprocess.CompletedProcess[str]:
    base = {k: v for k, v in os.environ.items() if not k.startswith(("SIGNING", "SEATSMITH_DIST"))}
    return subprocess.run(
        [str(w) for w in words],
        cwd=checkout,
        env={**base, "VENV": sys.prefix, **env},
        capture_output=True,
        text=True,
        check=False,
    )


def test_signed_papers_and_images_become_a_site_that_a_seat_believes(
    checkout: Path, release: TestKey, tmp_path: Path, tools: Tools
) -> None:
    built(checkout)
    secret = release.secret.read_text()
    done = run(checkout, "ci/sign", "papers/first", "papers/second", RELEASE_KEY=secret)
    assert done.returncode == 0, done.stderr
    shutil.copytree(checkout / "papers/first", checkout / "dist", dirs_exist_ok=True)
    done = run(checkout, "ci/publish", INDEX_KEY_FILE=str(release.secret))
    assert done.returncode == 0, done.stderr
    pulled = pull(
        str(checkout / "site"),
        "work",
        tmp_path / "seat/work",
        keys=[release.public.read_bytes()],
        state=tmp_path / "state.json",
        policy=Policy(),
        tools=tools,
    )
    assert pulled.release.version == "2026.11.01"


def test_no_program_that_a_script_starts_has_the_key_in_its_environment(
    checkout: Path, release: TestKey, tmp_path: Path
) -> None:
    built(checkout)
    venv = tmp_path / "venv/bin"
    venv.mkdir(parents=True)
    (venv / "seatsmith").write_text('#!/bin/sh\nenv >> seen\necho "$@" >> seen\ncat <&9 >> seen\n')
    (venv / "seatsmith").chmod(0o755)
    key = {"RELEASE_KEY": "very-secret", "VENV": str(venv.parent)}
    assert run(checkout, "ci/sign", "papers/first", "papers/second", **key).returncode == 0
    seen = (checkout / "seen").read_text()
    assert "--signing-key fd:9" in seen
    assert seen.count("very-secret") == 1 and seen.endswith("very-secret\n"), "only from the descriptor"


def test_the_signing_job_refuses_what_is_no_release(checkout: Path, release: TestKey) -> None:
    built(checkout, record=STANDIN)
    key = {"RELEASE_KEY": release.secret.read_text()}
    done = run(checkout, "ci/sign", "papers/first", "papers/second", **key)
    assert done.returncode == 4
    assert "built from standin" in done.stderr
    assert not (checkout / "papers/first/work/SHA256SUMS.gpg").exists()
    done = run(checkout, "ci/sign", "papers/first", "papers/second", RELEASE_OPTIONS="--test", **key)
    assert done.returncode == 0, done.stderr
    assert (checkout / "papers/first/work/TEST-RELEASE.txt").exists()


STEPS = """
jobs:
  sign:
    if: startsWith(github.ref, 'refs/tags/v')
    steps:
      - uses: actions/checkout@0
      - run: cp -r "$PAPERS" papers
      - {run: ci/sign papers/first papers/second, env: {RELEASE_KEY: "${{ secrets.RELEASE_KEY }}"}}
      - {uses: actions/upload-artifact@0, with: {name: signed, path: papers/first}}
      - {if: "vars.PUBLISH_TO == ''", run: "cp \\"${PUBLISH_OPTIONS##* }\\" \\"$OUT\\""}
"""


def test_a_local_run_as_for_a_tag_signs_with_a_key_of_its_own(
    checkout: Path, tmp_path: Path, tools: Tools
) -> None:
    built(checkout, record=STANDIN)
    (tmp_path / "flow.yml").write_text(STEPS)
    project, out = Project(checkout, tmp_path / "cache", checkout / "dist"), tmp_path / "key.gpg"
    extra = {"PAPERS": str(checkout / "papers"), "OUT": str(out), "VENV": sys.prefix}
    kept = tmp_path / "kept"
    run_workflow(project, tmp_path / "flow.yml", only=[], extra=extra, release=True, keep=kept)
    shutil.copytree(kept / "signed/work", checkout / "dist/work", dirs_exist_ok=True)
    report = verify_directory(checkout / "dist/work", keys=[out.read_bytes()], tools=tools)
    assert report.problems == []
    assert "TEST-RELEASE.txt" in report.digests


@pytest.fixture
def service(checkout: Path, tmp_path: Path) -> Path:
    """The repository that the checkout was cloned from, and a `gh` that keeps what it is told."""
    origin = tmp_path / "origin"
    subprocess.run(["git", "clone", "-q", "--bare", checkout, origin], check=True)
    subprocess.run(["git", "-C", checkout, "remote", "add", "origin", origin], check=True)
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin/gh").write_text('#!/bin/sh\nprintf "%s\\n" "$@" > "$SAID"\n')
    (tmp_path / "bin/gh").chmod(0o755)
    (checkout / "renewed").mkdir()
    (checkout / "renewed/summary.md").write_text("what is new")
    return origin


def proposed(checkout: Path, tmp_path: Path, **env: str) -> subprocess.CompletedProcess[str]:
    path = f"{tmp_path / 'bin'}:{os.environ['PATH']}"
    return run(checkout, "ci/propose", "renewed", PATH=path, SAID=str(tmp_path / "said"), **env)


def test_renewed_locks_become_a_branch_and_a_change_with_the_summary(
    checkout: Path, service: Path, tmp_path: Path
) -> None:
    (checkout / "renewed/work.upstream.lock").write_text("new")
    (checkout / "renewed/work.diff.html").write_text("a page")
    done = proposed(checkout, tmp_path, GITLAB_CI="")
    assert done.returncode == 0, done.stderr
    asked = (tmp_path / "said").read_text().split("\n")
    branch = asked[asked.index("--head") + 1]
    assert branch.startswith("locks/20")
    assert asked[asked.index("--body-file") + 1] == "renewed/summary.md"
    show = ["git", "-C", service, "show", "--format=%an%n%s", "--name-only", branch]
    said = subprocess.run(show, capture_output=True, text=True, check=True).stdout.split()
    assert said[0] == "seatsmith-ci"
    assert said[-1] == "profiles/work.upstream.lock", "that alone"


def test_without_a_new_lock_nothing_is_proposed(checkout: Path, service: Path, tmp_path: Path) -> None:
    done = proposed(checkout, tmp_path, GITLAB_CI="")
    assert (done.returncode, done.stdout) == (0, "no lock changed\n")
    assert not (tmp_path / "said").exists()
