"""How does the pipeline run on one machine? Its jobs, step for step, each in a clean clone.

Reads a GitHub Actions workflow and knows what ours use of it: jobs in order, matrices, run steps, checkout,
artifacts, job outputs, and the few expressions between ``${{ }}``. Whatever else it meets is an error.
"""

import itertools
import json
import os
import re
import shutil
import time
from collections.abc import Iterator, Mapping, Set
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from builder import ui
from builder.errors import CheckFailed, InputError
from builder.files import remove_tree
from builder.project import Project
from builder.run import ProgramError, run

EXPRESSION = re.compile(r"\$\{\{\s*(.+?)\s*\}\}")
BRANCH = "refs/heads/local"  # no tag: what only a release does is left out, and said to be
TAG = "refs/tags/v0-local"


@dataclass
class Pipeline:
    """One run of a workflow, and what its jobs have left so far."""

    project: Project
    top: Path
    """Clones, artifacts and logs; removed when all went well."""
    env: dict[str, str]
    commit: str
    """Which all jobs build, also where more is committed meanwhile."""
    ref: str = BRANCH
    secrets: dict[str, str] = field(default_factory=dict)
    times: list[tuple[str, float]] = field(default_factory=list)
    """Seconds that each job took."""
    outputs: dict[str, dict[str, str]] = field(default_factory=dict)
    context: dict[str, str] = field(default_factory=dict)
    """Values of expressions in the job that runs: ``matrix.profile`` and so on."""

    @property
    def artifacts(self) -> Path:
        return self.top / "artifacts"

    def value(self, name: str) -> str:
        """What an expression stands for. Raises InputError for one that is not known here."""
        if name in self.context:
            return self.context[name]
        if match := re.fullmatch(r"(?:needs|steps)\.([\w-]+)\.outputs\.([\w-]+)", name):
            return self.outputs.get(match[1], {}).get(match[2], "")
        if match := re.fullmatch(r"secrets\.(\w+)", name):
            return self.secrets.get(match[1]) or os.environ.get(match[1], "")
        if match := re.fullmatch(r"vars\.(\w+)", name):
            return self.env.get(match[1]) or os.environ.get(match[1], "")
        raise InputError(f"the expression {name!r} of the workflow is not known to a local run")

    def filled(self, text: str) -> str:
        return EXPRESSION.sub(lambda match: self.value(match[1]), text)

    def holds(self, condition: str) -> bool:
        """Whether a job's or step's ``if`` holds."""
        if condition == "always()":
            return True
        if match := re.fullmatch(r"startsWith\(github\.ref, '(.*)'\)", condition):
            return self.ref.startswith(match[1])
        if match := re.fullmatch(r"(\S+) (!=|==) '(.*)'", condition):
            return (self.value(match[1]) == match[3]) is (match[2] == "==")
        raise InputError(f"the condition {condition!r} of the workflow is not known to a local run")


def run_workflow(
    project: Project,
    path: Path,
    *,
    only: list[str],
    extra: Mapping[str, str],
    release: bool = False,
    keep: Path | None = None,
) -> list[tuple[str, float]]:
    """Run a workflow's jobs (or those in ``only``) and return what time each took.

    ``release``: as for a tag, with a key that is made for this run, and the images marked as a test release.
    ``keep`` is where the artifacts go. Raises CheckFailed at the first job that fails.
    """
    workflow = yaml.safe_load(path.read_text())
    jobs: dict[str, dict[str, Any]] = workflow["jobs"]
    if unknown := [name for name in only if name not in jobs]:
        raise InputError(f"{path} has no job {unknown[0]!r}", hint=f"it has: {', '.join(jobs)}")
    top = project.cache / "work" / "ci"
    remove_tree(top)
    (top / "artifacts").mkdir(parents=True)
    commit = run(["git", "-C", project.root, "rev-parse", "HEAD"], env=dict(os.environ)).text.strip()
    pipeline = Pipeline(project, top, {**workflow.get("env", {}), **extra}, commit)
    if release:
        prepare_release(pipeline)
    left_out: set[str] = set()
    for name, job in jobs.items():
        if only and name not in only:
            continue
        if why := reason_to_leave_out(pipeline, job, left_out):
            left_out.add(name)
            ui.current().say(f"• {name}: left out, since {why}")
            continue
        for values in variants(pipeline, job):
            run_job(pipeline, name, job, values)
    if keep:
        shutil.copytree(pipeline.artifacts, keep, symlinks=True, dirs_exist_ok=True)
    remove_tree(top)
    for title, seconds in pipeline.times:
        ui.current().say(f"  {seconds:7.0f} s  {title}")
    ui.current().say(f"  {sum(seconds for _, seconds in pipeline.times):7.0f} s  in all")
    return pipeline.times


def reason_to_leave_out(pipeline: Pipeline, job: Mapping[str, Any], left_out: Set[str]) -> str:
    """Why a job does not run, as GitHub decides it: by its condition or a job that it needs; else empty."""
    needs = job.get("needs", [])
    for needed in [needs] if isinstance(needs, str) else needs:
        if needed in left_out:
            return f"{needed} was"
    return f"not: {job['if']}" if "if" in job and not pipeline.holds(job["if"]) else ""


def prepare_release(pipeline: Pipeline) -> None:
    """A key for this run, in the secrets that only a tag's jobs have."""
    from builder.outputs.gpg import temporary_keyring
    from builder.tools import ensure_tools

    pipeline.ref = TAG
    with temporary_keyring(ensure_tools()) as ring:
        words = ["--pinentry-mode", "loopback", "--passphrase", ""]
        ring.gpg([*words, "--quick-generate-key", "Trial <trial@localhost>", "ed25519", "sign", "1d"])
        (fingerprint,) = ring.secret_keys()
        secret = ring.gpg([*words, "--armor", "--export-secret-keys", fingerprint]).text
        public = pipeline.top / "trial-key.gpg"
        public.write_bytes(ring.export(fingerprint))
    pipeline.secrets |= {"RELEASE_KEY": secret, "INDEX_KEY": secret}
    pipeline.env |= {"RELEASE_OPTIONS": "--test", "PUBLISH_OPTIONS": f"--allow-standin --key {public}"}


def variants(pipeline: Pipeline, job: Mapping[str, Any]) -> Iterator[dict[str, str]]:
    """The combinations of a job's matrix; one empty one without."""
    axes: dict[str, Any] = job.get("strategy", {}).get("matrix", {})
    lists = [axis if isinstance(axis, list) else listed(pipeline, axis) for axis in axes.values()]
    for values in itertools.product(*lists):
        yield dict(zip(axes, map(str, values), strict=True))


def listed(pipeline: Pipeline, text: str) -> list[Any]:
    match = EXPRESSION.fullmatch(text)
    inner = re.fullmatch(r"fromJSON\((.+)\)", match[1]) if match else None
    if inner is None:
        raise InputError(f"the matrix {text!r} of the workflow is not known to a local run")
    found: list[Any] = json.loads(pipeline.value(inner[1]) or "[]")
    return found


def run_job(pipeline: Pipeline, name: str, job: Mapping[str, Any], values: dict[str, str]) -> None:
    """Run one job in a clone of its own, and keep its outputs."""
    title = " ".join([name, *values.values()])
    pipeline.context = {f"matrix.{key}": value for key, value in values.items()}
    clone = pipeline.top / title.replace(" ", "-")
    started = time.monotonic()
    with ui.current().step(title):
        for step in job["steps"]:
            run_step(pipeline, title, clone, step)
    pipeline.times.append((title, time.monotonic() - started))
    pipeline.outputs[name] = {key: pipeline.filled(text) for key, text in job.get("outputs", {}).items()}
    remove_tree(clone)


def run_step(pipeline: Pipeline, title: str, clone: Path, step: Mapping[str, Any]) -> None:
    if "if" in step and not pipeline.holds(step["if"]):
        return
    if "run" in step:
        run_commands(pipeline, title, clone, step)
        return
    action = str(step.get("uses", "")).partition("@")[0]
    what = {key: pipeline.filled(str(value)) for key, value in step.get("with", {}).items()}
    if action == "actions/checkout":
        run(["git", "clone", "-q", pipeline.project.root, clone], env=dict(os.environ))
        run(["git", "-C", clone, "checkout", "-q", "--detach", pipeline.commit], env=dict(os.environ))
    elif action == "actions/upload-artifact":
        shutil.copytree(clone / what["path"], pipeline.artifacts / what["name"], symlinks=True)
    elif action == "actions/download-artifact":
        for place in sorted(pipeline.artifacts.glob(what.get("pattern") or what["name"])):
            shutil.copytree(place, clone / what["path"], symlinks=True, dirs_exist_ok=True)
    else:
        raise InputError(f"{title}: the action {action!r} is not known to a local run")


def run_commands(pipeline: Pipeline, title: str, clone: Path, step: Mapping[str, Any]) -> None:
    """Run a step's shell lines as GitHub does: ``bash -e -o pipefail``. Raises CheckFailed with its log."""
    lines = pipeline.filled(step["run"])
    more = {key: pipeline.filled(value) for key, value in step.get("env", {}).items()}
    output, log = clone.with_suffix(".output"), clone.with_suffix(".log")  # a release wants it clean
    output.write_text("")
    ui.current().say(f"  {lines.strip()}")
    env = {**without_make(os.environ), **pipeline.env, **more, "CI": "1", "GITHUB_OUTPUT": os.fspath(output)}
    try:
        run(["bash", "-e", "-o", "pipefail", "-c", lines], env=env, cwd=clone, log_to=log)
    except ProgramError as e:
        raise CheckFailed(f"{title}: {e.message}", hint=f"log: {log}") from e
    said = dict(line.split("=", 1) for line in output.read_text().splitlines() if "=" in line)
    if "id" in step:
        pipeline.outputs[step["id"]] = said


def without_make(environment: Mapping[str, str]) -> dict[str, str]:
    """Less what make(1) hands down: a job's make would take the ARGS of `make ci ARGS=--release` for its."""
    given = re.findall(r"(?:^|(?<!\\)\s)(\w+)=", environment.get("MAKEFLAGS", ""))
    return {
        name: value
        for name, value in environment.items()
        if name not in (*given, "MFLAGS") and not name.startswith("MAKE")
    }
