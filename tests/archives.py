"""Files for runs, as ConfigMaps have them."""

import base64
import io
import tarfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any


def packed(files: Mapping[str, str | bytes]) -> str:
    """A .tgz with these files, for the binaryData of a ConfigMap."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as archive:
        for name, text in files.items():
            content = text.encode() if isinstance(text, str) else text
            info = tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    return base64.b64encode(buffer.getvalue()).decode()


def packed_folder(folder: Path) -> str:
    """The same with the files of a folder."""
    files = (path for path in sorted(folder.rglob("*")) if path.is_file())
    return packed({str(path.relative_to(folder)): path.read_bytes() for path in files})


def config_map(name: str, binary: Mapping[str, str]) -> dict[str, Any]:
    """A ConfigMap with such archives."""
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}, "binaryData": dict(binary)}
