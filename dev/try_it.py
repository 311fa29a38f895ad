"""Shows two runs of the jaffle shop on this machine: a green one, and one with a model that fails.

`make try`, or `python -m dev.try_it` where dbt is. The exit code is 0 only when both end as they have to.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

CHECKOUT = Path(__file__).resolve().parent.parent
EXAMPLES = Path("examples/jaffle-shop")
# How each run ends: 0 is success, 1 a failure (docs/local.md).
SCENES = (("run.yaml", 0), ("broken.yaml", 1))
AFTERWARDS = ("get dbtruns,dbtmodels", "describe dbtrun jaffle-shop-broken", "logs jaffle-shop-broken")


def main() -> int:
    """Show them."""
    # What is on PATH may be another dbt.
    command = [sys.executable, "-m", "dbt_operator", "local"]
    environ = {
        "JAFFLE_SHOP_DUCKDB": str(CHECKOUT / ".dbt-operator" / "jaffle_shop.duckdb"),
        **os.environ,
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', '')}",
    }
    for manifest, expected in SCENES:
        file = str(EXAMPLES / manifest)
        print(f"\n$ dbt-operator local run -f {file}", flush=True)
        code = subprocess.run([*command, "run", "-f", file], cwd=CHECKOUT, env=environ, check=False).returncode
        if code != expected:
            print(f"{manifest} ended with the exit code {code}, not {expected}.", file=sys.stderr)
            return code or 1
    print("\nAs it should be: the broken model was tried twice, and what needs it was skipped. Look at it:")
    print(f"  export PATH={Path(sys.executable).parent}:$PATH")
    for words in AFTERWARDS:
        print(f"  dbt-operator local {words}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
