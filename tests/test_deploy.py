"""The files under deploy/ are what their tools accept, and agree with what the worker promises."""

from __future__ import annotations

import re
import shlex
import shutil
import subprocess
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import yaml

from kitaru.cli.worker import worker

DEPLOY = Path(__file__).resolve().parent.parent / "deploy"
UNIT = DEPLOY / "systemd" / "kitaru-worker@.service"
MANIFEST = DEPLOY / "kubernetes" / "worker.yaml"


def manifests() -> list[dict[str, Any]]:
    return list(yaml.safe_load_all(MANIFEST.read_text()))


def test_the_manifests_fit_the_schemas_of_kubernetes() -> None:
    kinds = []
    for manifest in manifests():
        kubernetes_validate.validate(manifest, "1.34", strict=True)
        kinds.append(manifest["kind"])
    assert kinds == ["Deployment", "PodDisruptionBudget"]


def test_a_manifest_with_a_slip_does_not_fit() -> None:
    deployment = manifests()[0]
    deployment["spec"]["replica"] = deployment["spec"].pop("replicas")
    with pytest.raises(kubernetes_validate.ValidationError):
        kubernetes_validate.validate(deployment, "1.34", strict=True)


def test_who_supervises_leaves_more_time_than_the_drain_takes() -> None:
    pod = manifests()[0]["spec"]["template"]["spec"]
    container = pod["containers"][0]
    drain = drain_seconds([*container["command"], *container["args"]])
    assert pod["terminationGracePeriodSeconds"] > drain
    assert int(said("TimeoutStopSec")) > drain_seconds(shlex.split(said("ExecStart")))


def said(name: str) -> str:
    (value,) = re.findall(rf"^{name}=(.*)$", UNIT.read_text(), re.MULTILINE)
    return str(value)


def drain_seconds(words: list[str]) -> float:
    """What the worker's own parser makes of the command line, after `kitaru worker`."""
    own = words[words.index("worker") + 1 :]
    context = worker.make_context("worker", own, resilient_parsing=False)
    return float(context.params["drain_seconds"])


def test_systemd_finds_nothing_to_say(tmp_path: Path) -> None:
    analyze = shutil.which("systemd-analyze")
    if analyze is None:
        pytest.skip("systemd-analyze is not installed here")
    # The program and the environment of the example are not here, others that exist stand in.
    text = UNIT.read_text().replace("/srv/shop/.venv/bin/python", "/bin/true")
    copy = tmp_path / UNIT.name
    copy.write_text(text)
    done = subprocess.run(
        [analyze, "verify", "--man=no", str(copy)], capture_output=True, text=True, check=False
    )
    about = [line for line in done.stderr.splitlines() if UNIT.name in line or "kitaru" in line]
    assert about == []
