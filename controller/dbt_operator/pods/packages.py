"""What lets dbt install packages that the project names, and what an earlier attempt has installed."""

from dbt_operator.api import names
from dbt_operator.api.spec import DbtRunSpec, Deps
from dbt_operator.dbt.found import LOCK
from dbt_operator.plan.attempt import Decision
from dbt_operator.pods.files import PACKAGES_FILE
from dbt_operator.pods.part import Part, read_only
from dbt_operator.pods.project import PACKAGES_CONFIG
from dbt_operator.pods.run import RunRef

# The path is the same in all attempts, as dbt's parse cache depends on it.
_WORK, _WORK_DIRECTORY = "dbt-operator-packages", "/dbt-operator/work"
_KEPT, _KEPT_DIRECTORY = "dbt-operator-kept-packages", "/dbt-operator/packages"


def packages_part(run: RunRef, spec: DbtRunSpec, decision: Decision) -> Part:
    """The part for `spec.deps`."""
    if spec.deps is Deps.NEVER:
        return Part()
    work = Part(
        volumes=({"name": _WORK, "emptyDir": {}},),
        mounts=({"name": _WORK, "mountPath": _WORK_DIRECTORY},),
        arguments=(f"--packages-dir={_WORK_DIRECTORY}",),
    )
    fetched = Part(arguments=(f"--git-config={PACKAGES_CONFIG}",) if spec.project.git is not None else ())
    return Part.joined((work, fetched, _kept(run, decision)))


def _kept(run: RunRef, decision: Decision) -> Part:
    """What attempts before this one have installed, or at least the versions of it."""
    if LOCK not in decision.found:
        return Part()
    kept = {"name": names.packages_name(run.name), "optional": True}
    return Part(
        volumes=({"name": _KEPT, "configMap": kept},),
        mounts=(read_only(volume=_KEPT, path=_KEPT_DIRECTORY),),
        arguments=(f"--packages={_KEPT_DIRECTORY}/{PACKAGES_FILE}", f"--packages-lock={decision.found[LOCK]}"),
    )
