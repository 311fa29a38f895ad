"""The demo's side of the cluster: kubectl as a user would call it, and a watch of one run."""

from __future__ import annotations

import json
import queue
import shutil
import subprocess
import threading
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import urllib3
from kubernetes import client, config, watch

from dev.cluster.settings import load

GROUP, VERSION = "dbt-operator.io", "v1alpha1"
RUN_LABEL = f"{GROUP}/run"
KINDS = {"DbtRun": "dbtruns", "DbtModel": "dbtmodels"}
_PAUSE_AFTER_A_BROKEN_WATCH = 0.5


class DemoError(Exception):
    """What went wrong and what to do about it, in a sentence: shown without a traceback."""


@dataclass(frozen=True, slots=True)
class Change:
    """An object was added or changed."""

    kind: str
    document: Mapping[str, Any]


@dataclass(frozen=True, kw_only=True)
class Cluster:
    """One namespace of the cluster that a kubeconfig leads to."""

    kubeconfig: Path
    namespace: str

    def kubectl(self, *arguments: str) -> str:
        """The output of kubectl. Raises: DemoError with kubectl's own words."""
        program = shutil.which("kubectl") or str(load().client_binaries / "kubectl")
        argv = [program, "--kubeconfig", str(self.kubeconfig), "--namespace", self.namespace, *arguments]
        try:
            done = subprocess.run(argv, capture_output=True, text=True, check=False)
        except OSError as error:
            raise DemoError("There is no kubectl: run `make cluster`, which also brings one.") from error
        if done.returncode != 0:
            raise DemoError(f"kubectl {' '.join(arguments)} failed: {done.stderr.strip()}")
        return done.stdout

    def forget(self, *names: str) -> None:
        """Delete runs of an earlier demo, and wait until all that they owned is gone."""
        if not self.kubeconfig.is_file():
            raise DemoError(f"There is no {self.kubeconfig}: run `make cluster`, or pass --kubeconfig.")
        self.kubectl("delete", "dbtrun", *names, "--ignore-not-found", "--timeout=60s")
        # Kubernetes deletes what a run owned a moment later than the run; a new one needs the same names.
        owned, of_these_runs = "jobs,configmaps,dbtmodels", f"--selector={RUN_LABEL} in ({','.join(names)})"
        self.kubectl("wait", "--for=delete", owned, of_these_runs, "--timeout=60s")

    def apply(self, manifest: Path, *, name: str) -> str:
        """Apply the manifest of a run; returns the uid of the run."""
        self.kubectl("apply", "-f", str(manifest))
        uid: str = json.loads(self.kubectl("get", "dbtrun", name, "-o", "json"))["metadata"]["uid"]
        return uid

    def changes(self, name: str) -> Iterator[Change | None]:
        """Changes of the run and of its DbtModels as they happen, and None about eight times a second meanwhile.

        Raises: DemoError when the API server refuses to be watched.
        """
        inbox: queue.Queue[Change | DemoError] = queue.Queue()
        ended = threading.Event()
        configuration = client.Configuration()
        config.load_kube_config(  # type: ignore[no-untyped-call]  # this part of the package has no types
            config_file=str(self.kubeconfig), client_configuration=configuration
        )
        selections = {"DbtRun": {"field_selector": f"metadata.name={name}"},
                      "DbtModel": {"label_selector": f"{RUN_LABEL}={name}"}}  # fmt: skip
        for kind, selection in selections.items():
            arguments = (client.ApiClient(configuration), self.namespace, kind, selection, inbox, ended)
            threading.Thread(target=_watch, args=arguments, daemon=True).start()
        try:
            while True:
                try:
                    item = inbox.get(timeout=0.125)
                except queue.Empty:
                    yield None
                    continue
                if isinstance(item, DemoError):
                    raise item
                yield item
        finally:
            ended.set()


def _watch(
    api: client.ApiClient,
    namespace: str,
    kind: str,
    selection: Mapping[str, str],
    inbox: queue.Queue[Change | DemoError],
    ended: threading.Event,
) -> None:
    """Put every change into the inbox, until the demo has seen enough.

    A watch without a resourceVersion begins with all that exists, so that one that broke is simply begun again: what
    is told twice does no harm.
    """
    untyped: Any = watch  # this part of the package has no types
    listing = client.CustomObjectsApi(api).list_namespaced_custom_object
    while not ended.is_set():
        try:
            for event in untyped.Watch().stream(listing, GROUP, VERSION, namespace, KINDS[kind], **selection):
                if ended.is_set():
                    return
                if event["type"] in ("ADDED", "MODIFIED"):
                    inbox.put(Change(kind, event["object"]))
                elif event["type"] == "DELETED" and kind == "DbtRun":
                    inbox.put(DemoError("The DbtRun was deleted while it was shown."))
        except client.ApiException as error:
            if error.status in (401, 403, 404):
                inbox.put(DemoError(f"The {KINDS[kind]} cannot be watched: {error.reason} ({error.status})."))
                return
        except (urllib3.exceptions.HTTPError, OSError):
            pass  # the connection broke; the demo's own time limit ends this if it stays so
        time.sleep(_PAUSE_AFTER_A_BROKEN_WATCH)
