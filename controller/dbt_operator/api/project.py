"""`spec.project`: where the dbt project comes from."""

import re
from collections.abc import Mapping
from typing import Annotated, Self

from pydantic import AfterValidator, Field, JsonValue, StringConstraints, model_validator

from dbt_operator.api.strict import INT32, LocalObject, Meant, Name, SecretKeyName, StrictModel

_UNITS: Mapping[str, int] = {"Ki": 2**10, "Mi": 2**20, "Gi": 2**30}


def _inside(value: str) -> str:
    if ".." in value.split("/"):
        raise ValueError("it cannot lead out of the project's source by '..'")
    return value


Folder = Annotated[
    str,
    StringConstraints(min_length=1, max_length=1024, pattern=r"^[^/]"),
    Meant("a path within the project's source, which begins without a slash"),
    AfterValidator(_inside),
]
Size = Annotated[
    str,
    StringConstraints(max_length=16, pattern=r"^[1-9][0-9]*(Ki|Mi|Gi)$"),
    Meant("a size such as 512Mi or 2Gi"),
]
Seconds = Annotated[int, Field(ge=1, le=INT32)]
_Ref = Annotated[
    str,
    StringConstraints(min_length=1, max_length=1024, pattern=r"^[^-\s:^~?*\[\\][^\s:^~?*\[\\]*$"),
    Meant("a name that git allows"),
]


def size_in_bytes(size: str) -> int:
    """A size such as 512Mi in bytes."""
    return int(size[:-2]) * _UNITS[size[-2:]]


class CaConfigMap(StrictModel):
    """A key of a ConfigMap in the namespace of the run that holds certificates."""

    name: Name
    key: SecretKeyName = "ca.crt"


class ObjectKey(StrictModel):
    """A key of a ConfigMap or a Secret in the namespace of the run."""

    name: Name
    key: SecretKeyName


class ImageProject(StrictModel):
    """A dbt project that is part of the image."""

    path: Annotated[
        str,
        StringConstraints(min_length=1, max_length=1024, pattern="^/"),
        Meant("an absolute path, such as /dbt/shop"),
    ]


_Commit = Annotated[
    str,
    StringConstraints(max_length=64, pattern=r"^([0-9a-f]{40}|[0-9a-f]{64})$"),
    Meant("a commit by its whole name, of 40 or 64 hexadecimal digits"),
]


class GitRef(StrictModel):
    """What to check out of a git repository."""

    branch: _Ref | None = None
    tag: _Ref | None = None
    commit: _Commit | None = None

    @model_validator(mode="after")
    def _one(self) -> Self:
        if sum(each is not None for each in (self.branch, self.tag, self.commit)) != 1:
            raise ValueError("exactly one of branch, tag and commit is required")
        return self


_GIT_URL = r"^(https?://|ssh://|[A-Za-z0-9_][-.\w]*@[-.\w]+:)[^\s]+$"


class GitProject(StrictModel):
    """A dbt project in a git repository."""

    url: Annotated[
        str,
        StringConstraints(min_length=1, max_length=2048, pattern=_GIT_URL),
        Meant("a URL of git: https://host/path, ssh://user@host/path or user@host:path"),
    ]
    ref: GitRef | None = None
    path: Folder | None = None
    depth: Annotated[int, Field(ge=1, le=INT32)] = 1
    submodules: bool = False
    secret_ref: LocalObject | None = None
    ca_config_map_ref: CaConfigMap | None = None
    size_limit: Size = "512Mi"
    timeout_seconds: Seconds = 120

    @property
    def ssh(self) -> bool:
        """Whether it is reached by ssh."""
        return not self.url.startswith("http")

    @model_validator(mode="after")
    def _credentials(self) -> Self:
        if not self.ssh and "@" in re.split("[/?#]", self.url.partition("://")[2], maxsplit=1)[0]:
            raise ValueError("url has a user or a password in it: name a Secret in secretRef instead")
        if self.ssh and self.secret_ref is None:
            raise ValueError("secretRef is required: ssh needs the keys ssh-privatekey and known_hosts of a Secret")
        if self.url.startswith("http://") and self.secret_ref is not None:
            raise ValueError("url begins with http://, and everybody could read what is in secretRef: take https://")
        return self


_Url = Annotated[
    str,
    StringConstraints(min_length=1, max_length=2048, pattern=r"^https?://[^\s]+$"),
    Meant("an https:// or http:// URL"),
]
_Sha256 = Annotated[
    str, StringConstraints(max_length=64, pattern=r"^[0-9a-f]{64}$"), Meant("a SHA-256 in 64 hexadecimal digits")
]


class ArchiveProject(StrictModel):
    """A dbt project in an archive, .tgz or .zip."""

    config_map_ref: ObjectKey | None = None
    secret_ref: ObjectKey | None = None
    url: _Url | None = None
    sha256: _Sha256 | None = None
    ca_config_map_ref: CaConfigMap | None = None
    path: Folder | None = None
    size_limit: Size = "512Mi"
    timeout_seconds: Seconds = 120

    @model_validator(mode="after")
    def _one_place(self) -> Self:
        if sum(each is not None for each in (self.config_map_ref, self.secret_ref, self.url)) != 1:
            raise ValueError("exactly one of configMapRef, secretRef and url is required")
        if (self.url is None) != (self.sha256 is None):
            raise ValueError("url and sha256 belong together")
        return self


class VolumeProject(StrictModel):
    """A dbt project on a volume. `source`: as in a pod; what may stand in it is decided by the API server."""

    source: Annotated[dict[str, JsonValue], Field(min_length=1)]
    path: Folder | None = None
    read_only: bool = True

    @model_validator(mode="after")
    def _no_name(self) -> Self:
        if "name" in self.source:
            raise ValueError("source has a name: the operator gives the volume its name")
        return self


class Project(StrictModel):
    """Where the dbt project comes from: exactly one source."""

    image: ImageProject | None = None
    git: GitProject | None = None
    archive: ArchiveProject | None = None
    volume: VolumeProject | None = None

    @model_validator(mode="after")
    def _one_source(self) -> Self:
        if sum(each is not None for each in (self.image, self.git, self.archive, self.volume)) != 1:
            raise ValueError("exactly one of image, git, archive and volume is required")
        return self
