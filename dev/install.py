"""Install the chart into the cluster that `make cluster` brought up, with the operator as it is in the
checkout now.

Run as `python -m dev.install`. The cluster is the one whose kubeconfig lies in the checkout, whatever KUBECONFIG says.
"""

import argparse
import subprocess
import sys
from pathlib import Path

from dev import images

RELEASE = "dbt-operator"
NAMESPACE = "dbt-operator-system"
CHECKOUT = Path(__file__).parents[1]
CHART = CHECKOUT / "charts" / "dbt-operator"


def _helm(*arguments: str) -> None:
    program = CHECKOUT / ".cluster" / "bin" / "helm"
    kubeconfig = CHECKOUT / ".cluster" / "kubeconfig"
    subprocess.run(
        [str(program), "--kubeconfig", str(kubeconfig), "--namespace", NAMESPACE, *arguments],
        check=True,
        stdout=subprocess.DEVNULL,
    )


def install() -> None:
    """Install or upgrade the release, and wait until the operator is ready.

    Raises: subprocess.CalledProcessError; Helm's own words are on standard error.
    """
    image, tools = images.build_images(["dbt-operator", "tools"])
    repository, _, tag = image.rpartition(":")
    values = (
        f"image.repository={repository}",
        f"image.tag={tag}",
        "image.pullPolicy=IfNotPresent",
        f"toolsImage={tools}",
    )
    settings = [argument for value in values for argument in ("--set", value)]
    # CRDs that a test or a person has applied before are taken over; of a release of their own nothing is lost.
    options = ("--create-namespace", "--take-ownership", "--wait", "--timeout", "120s")
    _helm("upgrade", "--install", RELEASE, str(CHART), *options, *settings)


def main() -> int:
    """Install, or uninstall."""
    parser = argparse.ArgumentParser(description="Install the chart into the development cluster.")
    parser.add_argument("--uninstall", action="store_true", help="remove the release instead; the CRDs and runs stay")
    uninstall = parser.parse_args().uninstall
    print(f"{'Removing' if uninstall else 'Installing'} release {RELEASE} in namespace {NAMESPACE}", flush=True)
    try:
        if uninstall:
            _helm("uninstall", RELEASE, "--wait")
        else:
            install()
    except subprocess.CalledProcessError as error:
        print(f"Helm failed with exit code {error.returncode}; what it said is above.", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
