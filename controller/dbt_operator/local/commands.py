"""The commands of `dbt-operator local`, without the reading of their options. Each returns an exit code."""

import os
import shutil
import sys
import time
from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import msgspec
from rich.console import Console

from dbt_operator.api import names
from dbt_operator.api.phases import RunPhase
from dbt_operator.api.problems import InvalidSpec
from dbt_operator.api.spec import DbtRunSpec
from dbt_operator.kube.resources import CONFIG_MAPS, DBT_MODELS, DBT_RUNS, Object
from dbt_operator.local import runs
from dbt_operator.local.artifacts import write_artifacts
from dbt_operator.local.ci import project_folder, tell_ci
from dbt_operator.local.estimate import Earlier, seconds_left
from dbt_operator.local.execute import DEFAULTS, Execution, Stopped
from dbt_operator.local.lock import HeldError, held, holder
from dbt_operator.local.manifests import Document, InvalidManifest, Manifests, load
from dbt_operator.local.meaningless import meaningless
from dbt_operator.local.origin import Origin, absolute, origin_of
from dbt_operator.local.picture import Picture, Run, see
from dbt_operator.local.place import NAMESPACE, Place
from dbt_operator.local.programs import Programs
from dbt_operator.local.report import Ended
from dbt_operator.local.runs import Asked, Begin
from dbt_operator.local.secrets import InvalidEnvFile, Secrets
from dbt_operator.local.store import Store
from dbt_operator.local.viewer import Viewer, result, viewer
from dbt_operator.reconcile.defaults import spec_of, taken

# Exit codes.
SUCCEEDED, FAILED, WRONG, CANCELLED, HELD = 0, 1, 2, 3, 4
STOPPED = 130
_ENDS = {RunPhase.SUCCEEDED: SUCCEEDED, RunPhase.FAILED: FAILED, RunPhase.CANCELLED: CANCELLED}


class CommandError(Exception):
    """What a command cannot do; the text is a sentence, `code` the exit code."""

    def __init__(self, message: str, *, code: int = WRONG) -> None:
        super().__init__(message)
        self.code = code


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """Of `run`: where things are on this machine."""

    files: tuple[str, ...]
    project: Path | None = None
    secrets: Path | None = None
    env_file: Path | None = None
    fresh: bool = False
    watch: bool | None = None  # None: where there is a terminal
    junit: Path | None = None  # where to write a report


@dataclass(slots=True)
class Session:
    """One command at work with the state of local runs."""

    store: Store
    place: Place
    console: Console

    def say(self, text: str) -> None:
        """Tell the person something that is no result."""
        print(text, file=sys.stderr, flush=True)

    def find(self, name: str) -> Object:
        """A run. Raises: CommandError."""
        run = self.store.get(DBT_RUNS, name, namespace=NAMESPACE)
        if run is None:
            known = ", ".join(each["metadata"]["name"] for each in self.store.all(DBT_RUNS)) or "none"
            raise CommandError(f"There is no run {name} in {self.place.root}; what is there: {known}.")
        return run


def session(root: Path, *, make: bool) -> Session:
    """What a command works with. Raises: CommandError where there is nothing, and nothing is to be made."""
    place = Place(root)
    if make:
        place.make()
    elif not place.state.exists():
        raise CommandError(f"There are no local runs in {root}: begin one with `dbt-operator local run -f FILE`.")
    return Session(Store(place.state), place, Console(soft_wrap=not sys.stdout.isatty()))


def run(options: Options, *, at: Session) -> int:
    """Execute the runs of the manifests, one after the other. Returns the worst of their exit codes."""
    try:
        manifests = load(options.files)
        if not manifests.runs:
            raise CommandError(f"There is no DbtRun in {', '.join(options.files)}.")
        at.place.make()
        secrets = _secrets(manifests, secrets=options.secrets, env_file=options.env_file)
        programs = Programs.found(os.environ)
        specs = [_checked(document, manifests, programs=programs) for document in manifests.runs]
        at.store.remove(CONFIG_MAPS, names.DEFAULTS, namespace=NAMESPACE)  # those of other files are not these runs'
        for document in manifests.others:
            _keep(document, at=at)
        _warn(manifests, specs, at=at)
        codes = []
        for document in manifests.runs:
            codes.append(_run_one(document, options, secrets=secrets, programs=programs, at=at))
            if codes[-1] == STOPPED:
                break
        begun = [document.name for document in manifests.runs[: len(codes)]]
        tell_ci([_ended(name, at=at) for name in begun], junit_file=options.junit, environ=os.environ)
        return max(codes)
    except (InvalidManifest, InvalidEnvFile) as error:
        raise CommandError(str(error)) from error


def _secrets(manifests: Manifests, *, secrets: Path | None, env_file: Path | None) -> Secrets:
    return Secrets(given=manifests.secrets, folder=secrets, env_file=env_file, environ=os.environ)


def _checked(document: Document, manifests: Manifests, *, programs: Programs) -> DbtRunSpec:
    """What is wrong with a manifest is said before anything begins, as an API server would."""
    defaults = next((one.obj for one in manifests.others if one.name == names.DEFAULTS), None)
    try:
        spec = spec_of(document.obj["spec"], defaults=taken(DEFAULTS, defaults))
    except InvalidSpec as error:
        raise CommandError(f"DbtRun {document.name}: {error}") from error
    if programs.missing and spec.environment.virtualenv is None:
        raise CommandError(
            "There is no dbt on PATH: activate the virtual environment that has it, or name what to install in"
            " spec.environment.virtualenv of the run."
        )
    return spec


def _keep(document: Document, *, at: Session) -> None:
    at.store.remove(document.resource, document.name, namespace=NAMESPACE)
    at.store.create(document.resource, document.obj)


def _warn(manifests: Manifests, specs: Sequence[DbtRunSpec], *, at: Session) -> None:
    runs = zip(manifests.runs, specs, strict=True)
    said = sorted({one for document, spec in runs for one in meaningless(document.obj["spec"], spec)})
    said += manifests.passed_over
    if said:
        at.say(f"Without a cluster these have no effect: {', '.join(said)}.")


def _run_one(document: Document, options: Options, *, secrets: Secrets, programs: Programs, at: Session) -> int:
    origin = Origin(
        files=tuple(str(Path(file).resolve()) for file in options.files if file != "-"),
        folder=str(document.file.parent if document.file is not None else Path.cwd()),
        project=absolute(options.project),
        secrets=absolute(options.secrets),
        env_file=absolute(options.env_file),
    )
    with _held(document.name, at=at):
        asked = runs.ask(document, origin=origin, store=at.store, place=at.place, fresh=options.fresh)
        _say_begin(asked, at=at)
        return _execute(asked, origin, secrets=secrets, programs=programs, watch=options.watch, at=at)


def _held(name: str, *, at: Session) -> AbstractContextManager[None]:
    return _Held(at.place.lock(name), name)


class _Held:
    """Has the run, or says who has it."""

    def __init__(self, file: Path, name: str) -> None:
        self._lock, self._name = held(file), name

    def __enter__(self) -> None:
        try:
            self._lock.__enter__()
        except HeldError as error:
            raise CommandError(
                f"The run {self._name} is executed by {error}: look at it with `dbt-operator local get dbtmodels -w`.",
                code=HELD,
            ) from None

    def __exit__(self, *error: object) -> None:
        self._lock.__exit__(None, None, None)


def _say_begin(asked: Asked, *, at: Session) -> None:
    name = asked.run["metadata"]["name"]
    if asked.begin is Begin.GOES_ON:
        at.say(f"The run {name} goes on with what is left of it.")
    elif asked.begin is Begin.TOLD:
        at.say(f"The run {name} has ended since you last looked.")
    elif asked.begin is Begin.AGAIN:
        at.say(f"The run {name} is begun anew.")


def _execute(
    asked: Asked, origin: Origin, *, secrets: Secrets, programs: Programs, watch: bool | None, at: Session
) -> int:
    run, name = asked.run, asked.run["metadata"]["name"]
    interactive = at.console.is_interactive if watch is None else watch
    earlier = _earlier(name, at=at)
    with viewer(
        at.console, interactive=interactive, left=lambda seen, now: seconds_left(seen, earlier, now=now)
    ) as view:
        shown = _Shown(run, store=at.store, view=view)
        execution = Execution(
            run=run,
            store=at.store,
            place=at.place,
            origin=origin,
            secrets=secrets,
            programs=programs,
            show=shown,
            say=at.say,
        )
        stopped = execution()
    if stopped is Stopped.AT_ONCE:
        at.say("Stopped. The same command goes on with what is left.")
        return STOPPED
    if stopped is Stopped.RESTS:
        at.say(f"The run {name} is suspended: the same command goes on once spec.suspend is false.")
        return CANCELLED
    run = at.find(name)
    write_artifacts(run, store=at.store, folder=at.place.artifacts(name))
    at.console.print(result(shown.picture, elapsed=shown.elapsed, interactive=interactive), soft_wrap=True)
    took = Earlier.of(run, at.store.all(DBT_MODELS, run=run["metadata"]["uid"]))
    if took is not None:
        at.place.earlier(name).write_bytes(msgspec.json.encode(took))
    runs.report(run, store=at.store)
    return _ends(run)


def _earlier(name: str, *, at: Session) -> Earlier | None:
    try:
        return msgspec.json.decode(at.place.earlier(name).read_bytes(), type=Earlier)
    except (OSError, msgspec.MsgspecError):
        return None


def _ended(name: str, *, at: Session) -> Ended:
    run = at.find(name)
    file = at.place.artifacts(name) / "run_results.json"
    results = msgspec.json.decode(file.read_bytes())["results"] if file.exists() else ()
    return Ended(
        name=name,
        status=runs.status_of(run),
        models=at.store.all(DBT_MODELS, run=run["metadata"]["uid"]),
        results=results,
        project=project_folder(run),
    )


def _ends(run: Object) -> int:
    phase = runs.status_of(run).phase
    return _ENDS.get(phase, FAILED) if phase is not None else FAILED


class _Shown:
    """What a person sees of the run. Each call looks what has changed."""

    def __init__(self, run: Object, *, store: Store, view: Viewer) -> None:
        self._name, self._store, self._view = run["metadata"]["name"], store, view
        self._uid = run["metadata"]["uid"]
        self._version = 0
        self._began = time.monotonic()
        self.picture = Picture(run=Run(name=self._name, uid=self._uid))

    @property
    def elapsed(self) -> float:
        """Seconds since the command has begun."""
        return time.monotonic() - self._began

    def __call__(self) -> None:
        """Look, and show it."""
        version, before = self._store.version, self.picture
        if version != self._version:
            for model in self._store.all(DBT_MODELS, run=self._uid, since=self._version):
                self.picture = see(self.picture, kind="DbtModel", document=model)
            run = self._store.get(DBT_RUNS, self._name, namespace=NAMESPACE)
            if run is not None:
                self.picture = see(self.picture, kind="DbtRun", document=run)
            self._version = version
        self._view.show(before, self.picture, elapsed=self.elapsed)


def retry(name: str, node: str | None, *, watch: bool | None, at: Session) -> int:
    """Ask for a retry, and execute it unless another process has the run."""
    run = at.find(name)
    model = _model(run, node, at=at) if node is not None else None
    other = holder(at.place.lock(name))
    if other is not None:
        runs.want_retry(run, store=at.store, model=model, reset_cancel=False)
        at.say(f"A retry is asked for; {other} has the run, and takes it up.")
        return SUCCEEDED
    origin = origin_of(run)
    try:
        manifests = load([file for file in origin.files if Path(file).exists()])
        secrets = _secrets(manifests, secrets=_path(origin.secrets), env_file=_path(origin.env_file))
    except (InvalidManifest, InvalidEnvFile) as error:
        raise CommandError(str(error)) from error
    with _held(name, at=at):
        runs.want_retry(run, store=at.store, model=model, reset_cancel=True)
        asked = Asked(at.find(name), Begin.GOES_ON)
        return _execute(asked, origin, secrets=secrets, programs=Programs.found(os.environ), watch=watch, at=at)


def _model(run: Object, node: str, *, at: Session) -> Object:
    """The DbtModel that a person means: by its name, the node's name or its unique id. Raises: CommandError."""
    models = at.store.all(DBT_MODELS, run=run["metadata"]["uid"])
    for model in models:
        if node in (model["metadata"]["name"], model["spec"]["name"], model["spec"]["uniqueId"]):
            return model
    raise CommandError(f"The run {run['metadata']['name']} has no node {node}.")


def _path(text: str | None) -> Path | None:
    return None if text is None else Path(text)


def cancel(name: str, *, at: Session) -> int:
    """Cancel a run, as spec.cancel does on a cluster."""
    run = at.find(name)
    if runs.status_of(run).ended:
        raise CommandError(f"The run {name} has ended already.")
    at.store.change(DBT_RUNS, name, {"spec": {"cancel": True}}, namespace=NAMESPACE)
    other = holder(at.place.lock(name))
    if other is None:
        at.say(f"No process executes the run {name}: it is cancelled by the command that goes on with it.")
    else:
        at.say(f"The run {name} is told to end; {other} has it.")
    return SUCCEEDED


def delete(runs_to_forget: Sequence[str], *, at: Session) -> int:
    """Forget runs, with all that was kept of them."""
    for name in runs_to_forget:
        run = at.find(name)
        with _held(name, at=at):
            runs.forget(run, store=at.store, place=at.place)
        shutil.rmtree(at.place.run(name), ignore_errors=True)
        at.console.print(f"dbtrun.dbt-operator.io/{name} deleted", highlight=False)
    return SUCCEEDED


def now() -> datetime:
    """The time by which ages are measured."""
    return datetime.now(UTC)
