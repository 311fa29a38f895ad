"""The runner's own command line: everything before `--` is ours, everything after it belongs to dbt."""

from __future__ import annotations

import argparse
from dataclasses import dataclass, field

from dbt_operator.runner.arguments import STAGES
from dbt_operator.runner.freshness import ANY, MODES, STALE_PARENTS
from dbt_operator.runner.parts import PARTS
from dbt_operator.runner.signals import GRACE_SECONDS

_OF_PACKAGES = ("packages_dir", "packages", "packages_lock", "git_config")
PRODUCER = "producer"
NODE = "node"
KINDS = (PRODUCER, NODE, "retry", "resume")


@dataclass(frozen=True)
class Options:
    """What the attempt's pod was asked to do."""

    attempt: str = ""
    attempt_kind: str = PRODUCER
    run_uid: str = ""
    run: str = ""
    namespace: str = ""
    began_in: str = ""  # the attempt, by its index, in which the execution of the nodes began
    project_dir: str = ""
    profiles_dir: str = ""
    state_dir: str = ""  # the folder with the artifacts of another run
    stage: str = ""  # of a run that executes its tests in a stage of their own, or each node in a pod of its own
    tests_after_all: bool = False  # what is listed has tests that a stage of their own executes
    without_tests: bool = False
    nodes: str = ""
    decides_on: str = ""  # a file of other nodes: whether they are executed, what is found of the sources decides too
    parse_cache: str = ""
    shared_parse: str = ""  # a folder that outlives the run, with what dbt has parsed in earlier ones
    microbatch_end: str = ""
    overrides: str = ""  # what the run's `nodes` select, as JSON
    grace_seconds: float = GRACE_SECONDS
    secret_env: tuple[str, ...] = ()
    secret_files: tuple[str, ...] = ()
    kept_paths: tuple[str, ...] = ()  # of mounted volumes that outlive the pod
    lost_paths: tuple[str, ...] = ()  # … and of those that do not
    packages_dir: str = ""  # where packages may be installed
    packages: str = ""  # a file with those that an earlier attempt has installed
    packages_lock: str = ""  # their versions
    git_config: str = ""  # a file that says where packages are that were fetched before
    found: tuple[str, ...] = ()  # files that steps before this one have left
    source_freshness: str = ""  # what is done about stale sources; "": they are not looked at
    stale_parents: str = ANY
    environment: str = ""  # the folder in which its step has left where the virtual environment is
    executor: str = ""  # "Async": what can be executed without dbt is
    async_settings: str = ""  # how, as JSON
    billed_before: int = 0  # bytes that earlier attempts of the run were billed for
    part: str = ""  # which part of such an attempt this process is
    part_folder: str = ""  # where it leaves what it has come to
    part_pipe: int = -1  # by which it tells how dbt connects
    dbt_args: tuple[str, ...] = field(default=())


def parse_options(*, argv: list[str]) -> Options:
    """Options from the arguments after the program's name; a mistake in our own part ends the process with code 2."""
    split = argv.index("--") if "--" in argv else len(argv)
    parser = argparse.ArgumentParser(prog="runner.pyz", usage="%(prog)s [options] -- DBT_COMMAND [DBT_OPTION …]")
    parser.add_argument("--attempt", default="")
    parser.add_argument("--attempt-kind", default=PRODUCER, choices=KINDS)
    parser.add_argument("--run-uid", default="")
    parser.add_argument("--run", default="")
    parser.add_argument("--namespace", default="")
    parser.add_argument("--began-in", default="", metavar="INDEX")
    parser.add_argument("--project-dir", default="")
    parser.add_argument("--profiles-dir", default="")
    parser.add_argument("--state-dir", default="", metavar="FOLDER")
    parser.add_argument("--stage", default="", choices=("", *STAGES))
    parser.add_argument("--tests-after-all", action="store_true")
    parser.add_argument("--without-tests", action="store_true")
    parser.add_argument("--nodes", default="", metavar="FILE")
    parser.add_argument("--decides-on", default="", metavar="FILE")
    parser.add_argument("--parse-cache", default="", metavar="FILE")
    parser.add_argument("--shared-parse", default="", metavar="FOLDER")
    parser.add_argument("--microbatch-end", default="", metavar="TIME")
    parser.add_argument("--overrides", default="", metavar="JSON")
    parser.add_argument("--grace-seconds", type=float, default=GRACE_SECONDS, metavar="SECONDS")
    parser.add_argument("--secret-env", action="append", default=[], metavar="NAME")
    parser.add_argument("--secret-file", action="append", default=[], metavar="PATH", dest="secret_files")
    parser.add_argument("--kept-path", action="append", default=[], metavar="PATH", dest="kept_paths")
    parser.add_argument("--lost-path", action="append", default=[], metavar="PATH", dest="lost_paths")
    for name in _OF_PACKAGES:
        parser.add_argument(f"--{name.replace('_', '-')}", default="")
    parser.add_argument("--found", action="append", default=[], metavar="FILE")
    parser.add_argument("--source-freshness", default="", choices=MODES)
    parser.add_argument("--stale-parents", default=ANY, choices=STALE_PARENTS)
    parser.add_argument("--environment", default="", metavar="FOLDER")
    parser.add_argument("--executor", default="", choices=("", "Async"))
    parser.add_argument("--async-settings", default="", metavar="JSON")
    parser.add_argument("--billed-before", type=int, default=0, metavar="BYTES")
    parser.add_argument("--part", default="", choices=("", *PARTS))
    parser.add_argument("--part-folder", default="", metavar="FOLDER")
    parser.add_argument("--part-pipe", type=int, default=-1, metavar="DESCRIPTOR")
    ours = parser.parse_args(argv[:split])
    return Options(
        attempt=ours.attempt,
        attempt_kind=ours.attempt_kind,
        run_uid=ours.run_uid,
        run=ours.run,
        namespace=ours.namespace,
        began_in=ours.began_in,
        project_dir=ours.project_dir,
        profiles_dir=ours.profiles_dir,
        state_dir=ours.state_dir,
        stage=ours.stage,
        tests_after_all=ours.tests_after_all,
        without_tests=ours.without_tests,
        nodes=ours.nodes,
        decides_on=ours.decides_on,
        parse_cache=ours.parse_cache,
        shared_parse=ours.shared_parse,
        microbatch_end=ours.microbatch_end,
        overrides=ours.overrides,
        grace_seconds=ours.grace_seconds,
        secret_env=tuple(ours.secret_env),
        secret_files=tuple(ours.secret_files),
        kept_paths=tuple(ours.kept_paths),
        lost_paths=tuple(ours.lost_paths),
        **{name: getattr(ours, name) for name in _OF_PACKAGES},
        found=tuple(ours.found),
        source_freshness=ours.source_freshness,
        stale_parents=ours.stale_parents,
        environment=ours.environment,
        executor=ours.executor,
        async_settings=ours.async_settings,
        billed_before=ours.billed_before,
        part=ours.part,
        part_folder=ours.part_folder,
        part_pipe=ours.part_pipe,
        dbt_args=tuple(argv[split + 1 :]),
    )
