"""How does the pipeline run on one machine? Its jobs, step for step, each in a clean clone.

Reads a GitHub Actions workflow and knows what ours use of it: jobs in order, matrices, run steps, checkout,
artifacts, job outputs, and the few expressions between ``${{ }}``. Whatever else it meets is an error.
"""

import itertools
import json
import os
import re
import shutil
from collections.abc import Iterator, Mapping
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
REF = "refs/heads/local"  # no tag: what only a release does is left out, and said to be


@dataclass
class Pipeline:
    """One run of a workflow, and what its jobs have left so far."""

    project: Project
    top: Path
    """Clones, artifacts and logs; removed when all went well."""
    env: dict[str, str]
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
            return os.environ.get(match[1], "")
        raise InputError(f"the expression {name!r} of the workflow is not known to a local run")

    def filled(self, text: str) -> str:
        return EXPRESSION.sub(lambda match: self.value(match[1]), text)

    def holds(self, condition: str) -> bool:
        """Whether a job's or step's ``if`` holds."""
        if condition == "always()":
            return True
        if match := re.fullmatch(r"startsWith\(github\.ref, '(.*)'\)", condition):
            return REF.startswith(match[1])
        if match := re.fullmatch(r"(\S+) != '(.*)'", condition):
            return self.value(match[1]) != match[2]
        raise InputError(f"the condition {condition!r} of the workflow is not known to a local run")


def run_workflow(project: Project, path: Path, *, only: list[str], extra: Mapping[str, str]) -> None:
    """Run a workflow's jobs (or those in ``only``). Raises CheckFailed at the first that fails."""
    workflow = yaml.safe_load(path.read_text())
    jobs: dict[str, dict[str, Any]] = workflow["jobs"]
    if unknown := [name for name in only if name not in jobs]:
        raise InputError(f"{path} has no job {unknown[0]!r}", hint=f"it has: {', '.join(jobs)}")
    top = project.cache / "work" / "ci"
    remove_tree(top)
    (top / "artifacts").mkdir(parents=True)
    pipeline = Pipeline(project, top, {**workflow.get("env", {}), **extra})
    for name, job in jobs.items():
        if only and name not in only:
            continue
        if "if" in job and not pipeline.holds(job["if"]):
            ui.current().say(f"• {name}: left out, since not: {job['if']}")
            continue
        for values in variants(pipeline, job):
            run_job(pipeline, name, job, values)
    remove_tree(top)


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
    with ui.current().step(title):
        for step in job["steps"]:
            run_step(pipeline, title, clone, step)
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
    output, log = clone / ".github-output", clone.with_suffix(".log")
    output.write_text("")
    ui.current().say(f"  {lines.strip()}")
    env = {**os.environ, **pipeline.env, **more, "CI": "1", "GITHUB_OUTPUT": os.fspath(output)}
    try:
        run(["bash", "-e", "-o", "pipefail", "-c", lines], env=env, cwd=clone, log_to=log)
    except ProgramError as e:
        raise CheckFailed(f"{title}: {e.message}", hint=f"log: {log}") from e
    said = dict(line.split("=", 1) for line in output.read_text().splitlines() if "=" in line)
    if "id" in step:
        pipeline.outputs[step["id"]] = said
