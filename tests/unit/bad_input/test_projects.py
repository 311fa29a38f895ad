"""Each project, profile and selection that dbt refuses: what the user is told, and that nothing half done is left."""

import re
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.bad_input.cases import PROJECT, Played, played
from tests.unit.bad_input.checks import assert_nothing_is_left, assert_one_sentence
from tests.unit.bad_input.player import IN_POD, Player

CASES = played("projects.yaml")


@pytest.fixture(scope="session")
def player(warm_python: Path, archive: Path, tmp_path_factory: pytest.TempPathFactory) -> Player:
    """Plays runs."""
    project = tmp_path_factory.mktemp("small") / "shop"
    shutil.copytree(PROJECT, project)
    subprocess.run(
        [warm_python, "-c", "from dbt.cli.main import cli; cli()", "--quiet", "parse"], cwd=project, check=True
    )
    return Player(python=warm_python, archive=archive, parsed=project / "target")


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
