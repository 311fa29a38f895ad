"""The files that dbt has written, as files: manifest.json, run_results.json and what a command was asked for."""

import base64
import gzip
import shutil
from pathlib import Path

from dbt_operator.api import names
from dbt_operator.kube.resources import CONFIG_MAPS, Object
from dbt_operator.local.place import NAMESPACE
from dbt_operator.local.store import Store


def write_artifacts(run: Object, *, store: Store, folder: Path) -> None:
    """Write them into a folder, in the place of what is there."""
    shutil.rmtree(folder, ignore_errors=True)
    name = run["metadata"]["name"]
    for kept in (names.artifacts_name(name), names.output_name(name)):
        found = store.get(CONFIG_MAPS, kept, namespace=NAMESPACE) or {}
        for key, packed in (found.get("binaryData") or {}).items():
            content = base64.b64decode(packed)
            folder.mkdir(parents=True, exist_ok=True)
            unpacked = gzip.decompress(content) if key.endswith(".gz") else content
            (folder / key.removesuffix(".gz")).write_bytes(unpacked)
