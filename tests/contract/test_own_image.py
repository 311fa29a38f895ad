"""An image of the user's own gets into the development cluster by one command, and pods run from it."""

import subprocess
import sys
import uuid
from pathlib import Path

from tests.conftest import CHECKOUT, Kubectl

# The same name each time, so that no more than one of them stays.
IMAGE = "own-image:test"
# The local cluster's builder says what to build on, as no registry is needed there.
DOCKERFILE = "ARG BASE=python:3.12-slim-bookworm\nFROM ${BASE}\nCOPY note /note\nUSER 65532:65532\n"


def test_an_image_that_was_built_from_a_folder_runs_in_a_pod(kubectl: Kubectl, namespace: str, tmp_path: Path) -> None:
    note = uuid.uuid4().hex
    (tmp_path / "Dockerfile").write_text(DOCKERFILE)
    (tmp_path / "note").write_text(note)
    loaded = subprocess.run(
        [sys.executable, "-m", "dev.load", IMAGE, "--context", str(tmp_path)],
        cwd=CHECKOUT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert loaded.returncode == 0, loaded.stderr
    assert loaded.stdout.endswith(f"image: {IMAGE}\n")
    run = ("run", "own", "-n", namespace, f"--image={IMAGE}", "--image-pull-policy=Never", "--restart=Never")
    kubectl(*run, "--command", "--", "cat", "/note")
    kubectl("wait", "-n", namespace, "pod/own", "--for=jsonpath={.status.phase}=Succeeded", "--timeout=120s")
    assert kubectl("logs", "-n", namespace, "own") == note
