"""Do the scripts of the pipelines sign papers alone, keep the key to themselves, and publish the outcome?"""

import os
import re
import shutil
import subprocess
import sys
import time
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


def fake(place: Path, name: str, text: str) -> None:
    """A program of this name that does what ``text`` says."""
    place.mkdir(parents=True, exist_ok=True)
    (place / name).write_text(f"#!/bin/sh\n{text}\n")
    (place / name).chmod(0o755)


def test_the_publishing_job_hands_its_keys_on_by_descriptors_and_ends_its_agent(
    checkout: Path, tmp_path: Path
) -> None:
    """test_ci_rsync.py has the real rsync."""
    built(checkout)
    (checkout / "dist/work/SHA256SUMS.gpg").touch()
    tell = 'env >> "$SEEN"; echo "${0##*/} $*" >> "$SEEN"'
    fake(tmp_path / "venv/bin", "seatsmith", f'{tell}; cat <&9 >> "$SEEN"')
    fake(tmp_path / "bin", "rsync", f"{tell}; mkdir -p site; touch site/index.json")
    fake(tmp_path / "bin", "ssh-add", f'{tell}; cat >> "$SEEN"')
    fake(tmp_path / "bin", "ssh-agent", "sleep 600 >&- & echo SSH_AGENT_PID=$!; echo $! > agent")
    said = tmp_path / "seen"
    keys = {"INDEX_KEY": "index-secret", "PUBLISH_SSH_KEY": "ssh-secret", "PUBLISH_TO": "host:www"}
    names = {"PUBLISH_KNOWN_HOSTS": "host ssh-ed25519 AAAA", "SEEN": str(said)}
    path = f"{tmp_path / 'bin'}:{os.environ['PATH']}"
    done = run(checkout, "ci/publish", PATH=path, VENV=str(tmp_path / "venv"), **keys, **names)
    assert done.returncode == 0, done.stderr
    seen = said.read_text()
    assert (seen.count("index-secret"), seen.count("ssh-secret")) == (1, 1), "only what was read"
    started = re.findall(r"^(ssh-add|rsync|seatsmith) (.*)$", seen, re.M)
    assert [name for name, _ in started] == ["ssh-add", "rsync", "seatsmith", "rsync", "rsync", "rsync"]
    assert started[1][1] == "-a host:www/ site/" and started[-1][1] == "-a --delete site/ host:www/"
    assert "StrictHostKeyChecking=yes" in seen
    agent = Path("/proc") / (checkout / "agent").read_text().strip() / "cmdline"
    ends = time.monotonic() + 5
    while agent.exists() and agent.read_bytes() and time.monotonic() < ends:
        time.sleep(0.01)
    assert not agent.exists() or not agent.read_bytes(), "it has ended, even if nobody has waited for it"


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


def test_on_gitlab_the_push_itself_opens_the_change(checkout: Path, service: Path, tmp_path: Path) -> None:
    (checkout / "renewed/work.upstream.lock").write_text("new")
    subprocess.run(["git", "-C", service, "config", "receive.advertisePushOptions", "true"], check=True)
    fake(service / "hooks", "pre-receive", f'env | grep ^GIT_PUSH_OPTION_[0-9] > "{tmp_path / "options"}"')
    there = "https://oauth2:token@gitlab.example.org/team/images.git"
    instead = {"GIT_CONFIG_COUNT": "1", "GIT_CONFIG_KEY_0": f"url.{service}.insteadOf"}
    project = {"CI_SERVER_HOST": "gitlab.example.org", "CI_PROJECT_PATH": "team/images"}
    known = {"GITLAB_CI": "true", "PUSH_TOKEN": "token", "CI_DEFAULT_BRANCH": "main", **project}
    done = proposed(checkout, tmp_path, GIT_CONFIG_VALUE_0=there, **instead, **known)
    assert done.returncode == 0, done.stderr
    options = (tmp_path / "options").read_text()
    assert "merge_request.create\n" in options and "merge_request.target=main\n" in options
    heads = ["git", "-C", service, "for-each-ref", "--format=%(refname:short)", "refs/heads/locks"]
    assert subprocess.run(heads, capture_output=True, text=True, check=True).stdout.startswith("locks/20")
    assert not (tmp_path / "said").exists(), "gh is GitHub's"


def test_without_a_new_lock_nothing_is_proposed(checkout: Path, service: Path, tmp_path: Path) -> None:
    done = proposed(checkout, tmp_path, GITLAB_CI="")
    assert (done.returncode, done.stdout) == (0, "no lock changed\n")
    assert not (tmp_path / "said").exists()
