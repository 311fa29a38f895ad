"""The runner's own command line: everything before `--` is ours, everything after it belongs to dbt."""

from __future__ import annotations

import argparse
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Options:
    """What the attempt's pod was asked to do."""

    attempt: str = ""
    run_uid: str = ""
    project_dir: str = ""
    profiles_dir: str = ""
    secret_env: tuple[str, ...] = ()
    secret_files: tuple[str, ...] = ()
    dbt_args: tuple[str, ...] = field(default=())


def parse_options(*, argv: list[str]) -> Options:
    """Options from the arguments after the program's name; a mistake in our own part ends the process with code 2."""
    split = argv.index("--") if "--" in argv else len(argv)
    parser = argparse.ArgumentParser(prog="runner.pyz", usage="%(prog)s [options] -- DBT_COMMAND [DBT_OPTION …]")
    parser.add_argument("--attempt", default="")
    parser.add_argument("--run-uid", default="")
    parser.add_argument("--project-dir", default="")
    parser.add_argument("--profiles-dir", default="")
    parser.add_argument("--secret-env", action="append", default=[], metavar="NAME")
    parser.add_argument("--secret-file", action="append", default=[], metavar="PATH", dest="secret_files")
    ours = parser.parse_args(argv[:split])
    return Options(
        attempt=ours.attempt,
        run_uid=ours.run_uid,
        project_dir=ours.project_dir,
        profiles_dir=ours.profiles_dir,
        secret_env=tuple(ours.secret_env),
        secret_files=tuple(ours.secret_files),
        dbt_args=tuple(argv[split + 1 :]),
    )
