"""Runs in an environment with dbt: loads profiles as dbt does, up to the credentials of the adapter.

Reads a JSON list of {"text", "profile", "target", "environment"}; prints a list, for each {"credentials", "class",
"target"} or {"error"}.
"""

import json
import os
import sys
from argparse import Namespace
from typing import Any

import yaml
from dbt.config.profile import Profile  # type: ignore[import-not-found]  # of the environment that runs this
from dbt.config.renderer import ProfileRenderer  # type: ignore[import-not-found]  # as above
from dbt.flags import set_from_args  # type: ignore[import-not-found]  # as above
from dbt_common.context import set_invocation_context  # type: ignore[import-not-found]  # as above
from dbt_common.exceptions import DbtBaseException  # type: ignore[import-not-found]  # as above


def load(case: dict[str, Any]) -> dict[str, Any]:
    """What dbt makes of one profile."""
    raw = yaml.safe_load(case["text"])
    set_invocation_context(os.environ | case["environment"])
    try:
        found = Profile.from_raw_profiles(raw, case["profile"], ProfileRenderer({}), target_override=case["target"])
    except DbtBaseException as error:
        return {"error": f"{type(error).__name__}: {error}"}
    credentials = {key: value for key, value in vars(found.credentials).items() if not key.startswith("_")}
    return {"credentials": credentials, "class": type(found.credentials).__name__, "target": found.target_name}


if __name__ == "__main__":
    set_from_args(Namespace(), {})
    sys.stdout.write(json.dumps([load(case) for case in json.load(sys.stdin)], default=str))
