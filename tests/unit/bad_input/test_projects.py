"""Each project, profile and selection that dbt refuses: what the user is told, and that nothing half done is left."""

import re
import shutil
import subprocess
from pathlib import Path

import pytest

from dbt_operator.runner.environment import PARSE_CACHE
from tests.bad_input.cases import PROJECT, Played, played
from tests.unit.bad_input.checks import assert_nothing_is_left, assert_one_sentence
from tests.unit.bad_input.player import IN_POD, Player, short_folder

CASES = played("projects.yaml")


@pytest.fixture(scope="session")
def player(warm_python: Path, archive: Path) -> Player:
    """Plays runs."""
    with short_folder() as folder:
        project = folder / "shop"
        shutil.copytree(PROJECT, project)
        subprocess.run(
            [warm_python, "-c", "from dbt.cli.main import cli; cli()", "--quiet", "parse"], cwd=project, check=True
        )
        parsed = (project / "target" / PARSE_CACHE).read_bytes()
    return Player(python=warm_python, archive=archive, parsed=parsed, parsed_at=project)


@pytest.mark.parametrize("case", CASES, ids=[each.case for each in CASES])
async def test_the_user_is_told_in_one_sentence(case: Played, player: Player) -> None:
    given, folder = await player.play(case)
    phase, reason, message = given.said()
    told = message.replace(str(folder), IN_POD)
    if case.many:  # with which of many alike files dbt begins is chance
        told = re.sub(r"\d{4}", "<n>", told)
    assert (phase, reason, told) == (case.phase, case.reason, case.message)
    assert_one_sentence(message)
    assert_nothing_is_left(given.server.objects.items())
    assert len(given.status()["attempts"]) == case.attempts
    assert given.phases() | case.nodes == given.phases()
