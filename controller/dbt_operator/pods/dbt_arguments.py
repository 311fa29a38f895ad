"""The arguments of dbt, from the spec of a run."""

from dbt_operator.api.spec import DbtRunSpec, InvalidSpec
from dbt_operator.pods.variables import yaml_text

# Linux gives a single argument of a process 128 KiB at most (MAX_ARG_STRLEN).
_ARGUMENT_LIMIT = 128 * 1024 - 1


def dbt_arguments(spec: DbtRunSpec, *, selection: bool = True) -> list[str]:
    """The arguments of dbt itself, the command first. Without `selection` the runner is told the nodes by a file.

    All others are the same for every attempt of a run: dbt throws its parse cache away when one of them differs.

    Raises: InvalidSpec where a value does not fit into an argument of a process.
    """
    # A value stands in one argument with its option: whatever it is, dbt cannot take it for an option of its own.
    arguments: list[str] = [spec.command.value]
    for flag, values in (("--select", spec.select), ("--exclude", spec.exclude)):
        if selection:
            arguments += [f"{flag}={value}" for value in values]
    for flag, value in (
        ("--selector", spec.selector if selection else None),
        ("--vars", _vars(spec)),
        ("--threads", str(spec.threads) if spec.threads else None),
        ("--profile", spec.profile.profile),
        ("--target", spec.profile.target),
    ):
        if value:
            arguments.append(f"{flag}={value}")
    if spec.full_refresh:
        arguments.append("--full-refresh")
    if spec.fail_fast is not None:
        # An explicit false has to win over `fail_fast: true` in the project's flags.
        arguments.append("--fail-fast" if spec.fail_fast else "--no-fail-fast")
    return arguments


def _vars(spec: DbtRunSpec) -> str | None:
    if not spec.vars:
        return None
    text = yaml_text(dict(spec.vars))
    limit = _ARGUMENT_LIMIT - len("--vars=")
    if len(text) > limit:
        raise InvalidSpec(
            f"spec.vars is too large: as one line of ASCII it may have {limit} bytes and has {len(text)}."
        )
    return text
