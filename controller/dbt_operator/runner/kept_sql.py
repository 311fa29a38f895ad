"""The statements that are executed without dbt, kept in a bucket for an audit: `spec.async.compiledSql`.

They are written by the process of dbt that has rendered them, before anything is executed: so what is not there was
not executed, whatever becomes of the pod, and the process that waits for the warehouse has no client of a bucket in
its memory.
"""

from __future__ import annotations

import json
from typing import Callable

from dbt_operator.runner import object_storage
from dbt_operator.runner.masking import Masker
from dbt_operator.runner.options import Options
from dbt_operator.runner.output import Line

FIELD = "spec.async.compiledSql.objectStorage"


class KeptSql:
    """Where the statements of an attempt are kept, if they are."""

    def __init__(self, *, options: Options, masker: Masker, stopped: Callable[[], bool]) -> None:
        settings: Line = json.loads(options.async_settings or "{}")
        self._url = str((settings.get("compiledSql") or {}).get("objectStorage") or "")
        self._options = options
        self._masker = masker
        self._stopped = stopped

    def unfit(self) -> str:
        """Why nothing can be kept, as a sentence; "" where it can, or need not be."""
        why = object_storage.unusable(self._url) if self._url else ""
        return f"{FIELD}: {why}" if why else ""

    def keep(self, plan: Line) -> str:
        """Keep the statements of a plan (`rendering`); returns why that was not possible, "" where it was."""
        texts = {} if not self._url else self._named(plan)
        if not texts:
            return ""
        try:
            object_storage.write(texts, url=self._url, stopped=self._stopped)
        except object_storage.StorageError as error:
            return f"{FIELD}: {error}; what cannot be kept is not executed"
        return ""

    def _named(self, plan: Line) -> dict[str, str]:
        """The texts, without secrets, by their names: below the attempt a folder for each node, numbered from 1."""
        own = self._options
        above = "/".join((own.namespace, own.run, own.run_uid, own.attempt))
        return {
            f"{above}/{unique_id}/{number}.sql": self._masker.text(str(statement["sql"]))
            for unique_id, node in plan["nodes"].items()
            for number, statement in enumerate((one for one in node.get("statements", ()) if "sql" in one), start=1)
        }
