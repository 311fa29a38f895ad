"""Install the chart into the cluster that `make cluster` brought up, with the images that `make images` built.

Run as `python -m dev.install [--set name=value]...`; further values are handed to Helm.
"""

import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from dev import images

RELEASE = "dbt-operator"
NAMESPACE = "dbt-operator-system"
CHART = Path(__file__).parents[1] / "charts" / "dbt-operator"


def install(*, values: Sequence[str] = ()) -> None:
    """Install or upgrade the release and wait until the operator is ready.

    Raises: subprocess.CalledProcessError; Helm's own words are on standard error.
    """
    repository, _, tag = images.reference("dbt-operator").rpartition(":")
    own = (f"image.repository={repository}", f"image.tag={tag}", "image.pullPolicy=IfNotPresent")
    settings = [argument for value in (*own, *values) for argument in ("--set", value)]
    subprocess.run(
        [
            *("helm", "upgrade", "--install", RELEASE, str(CHART)),
            *("--namespace", NAMESPACE, "--create-namespace", "--wait", "--timeout", "120s"),
            *settings,
        ],
        check=True,
        stdout=subprocess.DEVNULL,
    )


def main() -> int:
    """Install with the values given on the command line as `--set name=value`."""
    arguments = sys.argv[1:]
    print(f"Installing chart {CHART.name} into namespace {NAMESPACE}", flush=True)
    try:
        install(values=[value for flag, value in zip(arguments[::2], arguments[1::2], strict=True) if flag == "--set"])
    except subprocess.CalledProcessError as error:
        print(f"Helm could not install the chart (exit code {error.returncode}).", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
