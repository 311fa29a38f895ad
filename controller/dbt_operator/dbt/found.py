"""What the steps before dbt find out for their attempt, and every later attempt of the run takes from it.

It comes as an event of the runner, is a part of the attempt's state, and so is sealed with it. The decision for a later
attempt has it, and the steps of that attempt keep to it: the project is the same although its branch has moved.
"""

from collections.abc import Iterable, Mapping

from dbt_operator.dbt.state import AttemptState

COMMIT = "project.commit"  # that the project was fetched at
PACKAGES = "environment.packages."  # and a number: a piece of the list of what is installed, packed
LOCK = "packages.lock"  # the package-lock.yml that dbt has made, packed by the runner
DIGEST = "project.digest"  # of the archive that the project came in: sha256:…
STATE_RUN = "state.run"  # whose artifacts the run was given
STATE_CONFIG_MAP = "state.configMap"  # … or of which ConfigMap they are a copy
STATE_DIGEST = "state.digest"  # … or of the archive that they came in


def found_by(states: Iterable[AttemptState]) -> Mapping[str, str]:
    """What these attempts have found out, each of it by the first one that said so.

    An attempt whose pod was lost before dbt began has said nothing, and has executed nothing either: the next one may
    find something else.
    """
    found: dict[str, str] = {}
    for state in states:
        found = {**state.found, **found}
    return found


def packages_in(found: Mapping[str, str]) -> str:
    """The packages of the environment of dbt, as its step has packed them; "" where they are not known."""
    return "".join(found[name] for name in sorted(found) if name.startswith(PACKAGES))
