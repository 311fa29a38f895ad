"""A project from a git repository, fetched by git itself.

Secrets come from the files of a mounted Secret. They never stand in an argument, nor in the environment of a process:
git is told a helper that reads them, and ssh the path of its key.
"""

from __future__ import annotations

import os
import re
import shlex
import tempfile
import urllib.parse
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from dbt_operator.runner.fetch_packages import fetch_packages
from dbt_operator.runner.limits import Limits, ProgramError, run_within
from dbt_operator.runner.output import plain
from dbt_operator.runner.steps import StepError

FIELD = "spec.project.git"
# Any name serves for most servers that know a user by a token; some want a certain one, which the Secret has then.
_TOKEN_USER = "x-access-token"  # noqa: S105 - a name
_SSH_KEY, _KNOWN_HOSTS = "ssh-privatekey", "known_hosts"
PACKAGES = ".git/packages"
"""Where packages from the server of the project are, in its tree."""
_NSS_WRAPPER = "libnss_wrapper.so"


@dataclass(frozen=True)
class Source:
    """What to fetch. One of branch, tag and commit at most; without one it is the repository's default branch."""

    url: str
    branch: str = ""
    tag: str = ""
    commit: str = ""
    as_before: str = ""  # the commit that an earlier attempt of the run has fetched
    depth: int = 1
    submodules: bool = False
    secret: Path | None = None
    secret_name: str = ""
    ca: str = ""
    packages_of: str | None = None  # the folder of the project, where its packages from this server are fetched as well

    @property
    def ssh(self) -> bool:
        """Whether it is reached by ssh."""
        return "://" not in self.url or self.url.startswith("ssh://")

    @property
    def server(self) -> str:
        """The scheme, host and port of its URL: to nothing else are credentials sent."""
        if "://" not in self.url:
            return self.url.partition(":")[0]
        parts = urllib.parse.urlsplit(self.url)
        return f"{parts.scheme}://{parts.netloc}"

    @property
    def wanted(self) -> tuple[str, str]:
        """The reference to fetch, and how the message calls it."""
        if self.as_before or self.commit:
            return self.as_before or self.commit, f"commit {self.as_before or self.commit}"
        if self.branch:
            return f"refs/heads/{self.branch}", f"branch {self.branch}"
        if self.tag:
            return f"refs/tags/{self.tag}", f"tag {self.tag}"
        return "HEAD", "default branch"


def fetch(source: Source, *, tree: Path, limits: Limits) -> dict[str, str]:
    """Fetch and check out; returns the commit. Raises: StepError."""
    with tempfile.TemporaryDirectory(prefix="fetch-") as scratch:
        git = _Git(source, tree=tree, limits=limits, scratch=Path(scratch))
        try:
            commit = git.fetch()
            if source.packages_of is not None:
                git.fetch_packages(source.packages_of)
            return {"project.commit": commit}
        except ProgramError as error:
            raise explained(source, str(error)) from error


class _Git:
    def __init__(self, source: Source, *, tree: Path, limits: Limits, scratch: Path) -> None:
        self._source, self._tree, self._limits = source, tree, limits
        self._env = _environment(source, scratch=scratch)

    def fetch(self) -> str:
        source = self._source
        reference, _ = source.wanted
        self._tree.mkdir()
        self._run("init", "--quiet")
        self._run("remote", "add", "origin", source.url)
        if source.as_before or source.commit:
            self._fetch_commit(reference)
        else:
            self._run("fetch", "--quiet", "--no-tags", f"--depth={source.depth}", "origin", reference)
        self._run(
            "checkout", "--quiet", "--detach", "FETCH_HEAD" if not source.as_before and not source.commit else reference
        )
        if source.submodules:
            self._run("submodule", "--quiet", "update", "--init", "--recursive", f"--depth={source.depth}")
        return self._run("rev-parse", "HEAD").strip()

    def _fetch_commit(self, commit: str) -> None:
        """By its name where the server allows that; elsewhere with all that branches and tags lead to."""
        try:
            self._run("fetch", "--quiet", "--no-tags", f"--depth={self._source.depth}", "origin", commit)
        except ProgramError as error:
            if not _NOT_ADVERTISED.search(str(error)):
                raise
            self._run("fetch", "--quiet", "--tags", "origin", "+refs/heads/*:refs/remotes/origin/*")
            try:
                self._run("cat-file", "-e", f"{commit}^{{commit}}")
            except ProgramError:
                raise error from None

    def fetch_packages(self, folder: str) -> None:
        """Fetch packages of the project in this folder, to where dbt does not look for files of it."""
        server = self._source.server
        fetch_packages(
            project=self._tree / folder,
            into=self._tree / PACKAGES,
            server=f"{server}/" if "://" in server else f"{server}:",
            git=self._run,
        )

    def _run(self, *arguments: str) -> str:
        return run_within(self._limits, ["git", *arguments], env=self._env, cwd=self._tree)


def _environment(source: Source, *, scratch: Path) -> Mapping[str, str]:
    """The environment of git: nothing of it is a secret."""
    config = scratch / "config"
    config.write_text("".join(_config(source)), encoding="utf-8")
    env = {
        "PATH": os.environ.get("PATH", os.defpath),
        "HOME": str(scratch),
        "LC_ALL": "C.UTF-8",  # the texts of errors are looked at
        "GIT_CONFIG_GLOBAL": str(config),
        "GIT_CONFIG_NOSYSTEM": "1",
        "GIT_TERMINAL_PROMPT": "0",
        # Neither a redirect nor a submodule may lead to a file of this container, or to a program.
        "GIT_ALLOW_PROTOCOL": os.environ.get("GIT_ALLOW_PROTOCOL", "https:http:ssh"),
    }
    env.update({name: value for name, value in os.environ.items() if name.lower() in _PROXIES})
    if source.ssh:
        env["GIT_SSH_COMMAND"] = _ssh_command(source, scratch=scratch)
        env.update(_with_a_user(scratch))
    return env


_PROXIES = frozenset({"http_proxy", "https_proxy", "no_proxy", "all_proxy"})


def _config(source: Source) -> Iterator[str]:
    yield "[advice]\n\tdetachedHead = false\n[init]\n\tdefaultBranch = main\n[gc]\n\tauto = 0\n"
    # A connection on which next to nothing comes is given up, long before the time is over.
    yield "[http]\n\tlowSpeedLimit = 100\n\tlowSpeedTime = 30\n"
    if source.ca:
        yield f"\tsslCAInfo = {source.ca}\n"
    if source.secret is not None and not source.ssh:
        secret = source.secret
        user, password = secret / "username", secret / ("token" if _has(secret, "token") else "password")
        if not _has(secret, password.name):
            raise StepError(
                f"The Secret {source.secret_name} of {FIELD}.secretRef has neither of the keys token and password:"
                " https needs one of them."
            )
        if password.name == "password" and not _has(secret, "username"):
            raise StepError(f"The Secret {source.secret_name} of {FIELD}.secretRef has no key username: add it.")
        name = f"$(cat {shlex.quote(str(user))})" if _has(secret, "username") else _TOKEN_USER
        # printf is a part of the shell: what it is given is in no list of processes.
        helper = (
            f'!f() {{ test "$1" = get && printf "username=%s\\npassword=%s\\n" "{name}"'
            f' "$(cat {shlex.quote(str(password))})"; }}; f'
        )
        yield f'[credential "{source.server}"]\n\thelper = "{_escaped(helper)}"\n'


def _escaped(text: str) -> str:
    """A value for a quoted text of git's configuration."""
    return text.replace("\\", "\\\\").replace('"', '\\"')


def _has(secret: Path, key: str) -> bool:
    return (secret / key).is_file()


def _ssh_command(source: Source, *, scratch: Path) -> str:
    """ssh with this key and these hosts, and nothing else that it could find or ask."""
    secret = source.secret
    for key in (_SSH_KEY, _KNOWN_HOSTS):
        if secret is None or not _has(secret, key):
            where = f"The Secret {source.secret_name} of {FIELD}.secretRef has no key {key}"
            raise StepError(f"{where}: ssh needs {_SSH_KEY}, and {_KNOWN_HOSTS} with the host keys of the server.")
    assert secret is not None  # noqa: S101 - for the type checker
    # ssh wants a key that nobody else may read, and a line end after it, which a Secret made by hand often lacks.
    key_file = scratch / "key"
    key_file.touch(mode=0o600)
    key_file.write_text((secret / _SSH_KEY).read_text(encoding="utf-8").rstrip() + "\n", encoding="utf-8")
    options = {
        "IdentitiesOnly": "yes",
        "BatchMode": "yes",
        "StrictHostKeyChecking": "yes",
        "UserKnownHostsFile": str(secret / _KNOWN_HOSTS),
        "GlobalKnownHostsFile": "/dev/null",
        "ConnectTimeout": "20",
        "ServerAliveInterval": "15",
    }
    argv = ["ssh", "-F", "/dev/null", "-i", str(key_file)]
    return shlex.join([*argv, *(word for name, value in options.items() for word in ("-o", f"{name}={value}"))])


def _with_a_user(scratch: Path) -> Mapping[str, str]:
    """ssh refuses to work for a user without a name, as the user of a pod usually is: it is lent one."""
    passwd, group = scratch / "passwd", scratch / "group"
    passwd.write_text(f"dbt:x:{os.getuid()}:{os.getgid()}::{scratch}:/bin/sh\n", encoding="utf-8")
    group.write_text(f"dbt:x:{os.getgid()}:\n", encoding="utf-8")
    libraries = sorted(Path("/usr/lib").glob(f"*/{_NSS_WRAPPER}"))
    if not libraries:
        return {}
    return {"LD_PRELOAD": str(libraries[0]), "NSS_WRAPPER_PASSWD": str(passwd), "NSS_WRAPPER_GROUP": str(group)}


_NOT_ADVERTISED = re.compile(
    r"unadvertised object|not our ref|couldn't find remote ref|unable to find remote ref", re.I
)


@dataclass(frozen=True)
class _Failure:
    """What git or ssh says, what that means, and what to do. Fields of the source can be used in both."""

    said: str
    means: str
    do: str
    passing: bool = False


# The first that fits decides. Written against the texts of git 2.34 to 2.47 and OpenSSH 8.4 to 9.9.
_FAILURES = (
    _Failure(
        r"REMOTE HOST IDENTIFICATION HAS CHANGED",
        "The host key of the server of {url} is another one than known_hosts says",
        "if the server has a new key, correct known_hosts in the Secret {secret}",
    ),
    _Failure(
        r"host key is known for|Host key verification failed",
        "The host key of the server of {url} is not in known_hosts",
        "add it to known_hosts in the Secret {secret} (ssh-keyscan prints it)",
    ),
    _Failure(
        r"Load key .*(?:invalid format|error in libcrypto|incorrect passphrase)",
        "The key ssh-privatekey in the Secret {secret} is no private key that ssh can use without a passphrase",
        "correct it",
    ),
    _Failure(
        r"Permission denied \(",
        "The server of {url} refuses the key in the Secret {secret}",
        "add its public key where the server keeps those that may read the repository",
    ),
    _Failure(
        r"terminal prompts disabled|could not read Username",
        "The server of {url} wants to know who asks",
        "name a Secret with the keys username and password, or token, in {field}.secretRef",
    ),
    _Failure(
        r"Authentication failed|returned error: 40[13]|Access denied|invalid credentials",
        "The server of {url} refuses the credentials{of_secret}",
        "correct them, or let them read the repository",
    ),
    _Failure(
        r"SSL certificate|server certificate verification|certificate verify failed|CAfile",
        "The certificate of the server of {url} is not signed by an authority that is trusted",
        "name a ConfigMap with the authority's certificate in {field}.caConfigMapRef",
    ),
    _Failure(
        r"Could not resolve (?:host|proxy)|Name or service not known|Temporary failure in name resolution",
        "The name of the server of {url} is not known",
        "correct {field}.url, or check the DNS of the cluster",
        passing=True,
    ),
    _Failure(
        _NOT_ADVERTISED.pattern,
        "The repository {url} has no {wanted}",
        "correct {field}.ref",
    ),
    _Failure(
        r"repository .* not found|returned error: 404|does not appear to be a git repository|Repository not found",
        "There is no repository {url}, or {who} may not see it",
        "correct {field}.url, or {field}.secretRef",
    ),
    _Failure(
        r"timed out|Connection refused|Connection reset|Connection closed|Failed to connect|unable to connect|"
        r"No route to host|Network is unreachable|Operation too slow|early EOF|unexpected disconnect|"
        r"returned error: (?:429|5\d\d)|hung up unexpectedly|Empty reply|RPC failed",
        "The server of {url} could not be reached, or the connection broke off",
        "check {field}.url, the server and the network",
        passing=True,
    ),
)


def explained(source: Source, said: str) -> StepError:
    """The failure of git as a sentence that names the field, and what to do."""
    words = {
        "url": source.url,
        "field": FIELD,
        "secret": source.secret_name,
        "of_secret": f" in the Secret {source.secret_name}" if source.secret_name else "",
        "who": f"whoever the Secret {source.secret_name} is of" if source.secret_name else "nobody without a Secret",
        "wanted": source.wanted[1],
    }
    text = _telling(said)
    if source.as_before and _NOT_ADVERTISED.search(said):
        gone = f"The repository {source.url} no longer has the commit {source.as_before}, with which the run began"
        return StepError(f"{gone}: create a new run ({text}).")
    failure = next((each for each in _FAILURES if re.search(each.said, said, re.I)), None)
    if failure is None:
        return StepError(f"git could not fetch {source.url}: {text}; check {FIELD}.")
    sentence = f"{failure.means.format(**words)}: {failure.do.format(**words)} ({text})."
    return StepError(sentence, passing=failure.passing)


def is_passing(said: str) -> bool:
    """Whether what git or ssh says may be otherwise at another time."""
    failure = next((each for each in _FAILURES if re.search(each.said, said, re.I)), None)
    return failure is not None and failure.passing


def _telling(said: str) -> str:
    """The line of git's or ssh's errors that tells most."""
    lines = [line.strip() for line in plain(said).splitlines() if line.strip()]
    general = re.compile(r"Could not read from remote repository|correct access rights|repository exists|^@+")
    telling = [line for line in lines if not general.search(line)]
    fatal = next((line for line in telling if line.startswith(("fatal:", "error:"))), None)
    return (fatal or (telling or lines or ["it said nothing"])[-1]).rstrip(".")
