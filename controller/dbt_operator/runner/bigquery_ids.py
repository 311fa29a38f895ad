"""The ids of BigQuery's jobs: what a statement is called, so that it is executed once whoever asks for it.

BigQuery takes an id once. So a statement has the same id in every attempt that goes on with the same execution of its
node: who comes second is told that the job is there, and follows it. The id is made of

- the uid of the run,
- what executes the statement: the node, and the attempt in which its execution began; or the attempt alone, of what
  belongs to no node and is done in each attempt, as hooks are,
- the texts of all statements before it there, and its own. Once one of them is another one than before, so are all that
  follow it: nobody knows what they would find,
- how often the same has been asked for before in this process, as the batches of a microbatch model run side by side,
- how many jobs of this id have failed, or have left nothing: the last part, which is counted up.

Pure, and without dbt.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace

PREFIX = "dbt-operator"
# As keys of labels. Each begins alike, as a project's query comment may make labels too.
RUN, NODE, NAMESPACE, ATTEMPT = (f"dbt_operator_{name}" for name in ("run", "node", "namespace", "attempt"))
BEGAN_IN = "dbt_operator_began_in"
_LABEL_LENGTH = 63
# Of temporary tables dbt-bigquery makes the name with the time of day since 1.11.
_TEMPORARY = re.compile(r"(__dbt_tmp\w*?)\d{12}\b")


@dataclass(frozen=True)
class StatementId:
    """What one statement is called. `number`: how many jobs of it have failed, or have left nothing."""

    run_uid: str
    chain: str  # of all statements so far, this one included
    again: int = 0
    number: int = 0

    @property
    def job(self) -> str:
        """The id of the job."""
        return f"{PREFIX}-{self.run_uid}-{self.chain[:32]}-{self.again}-{self.number}"

    def following(self) -> StatementId:
        """The id after this one, whose job does not count any more."""
        return replace(self, number=self.number + 1)


def first(*, run_uid: str, what: str, began_in: str) -> str:
    """The chain before any statement. `what`: the node; `began_in`: the attempt in which its execution began."""
    return _digest(run_uid, what, began_in)


def following(chain: str, statement: str) -> str:
    """The chain with one more statement, as `normalised` has it."""
    return _digest(chain, _TEMPORARY.sub(r"\1", statement))


def normalised(statement: str, *, comment: str = "", invocation_id: str = "") -> str:
    """The text without what is another one in each invocation: dbt's comment, and the id of the invocation."""
    text = statement.replace(f"/* {comment} */", "", 1) if comment else statement
    text = text.replace(invocation_id, "<invocation>") if invocation_id else text
    return text.strip()


def temporary(table: str) -> bool:
    """Whether a table has a name that is another one in each execution."""
    return bool(_TEMPORARY.search(table))


def labels(*, run: str, node: str, namespace: str, attempt: str, began_in: str = "") -> dict[str, str]:
    """The labels of a job; of what is not known there is none.

    began_in: the attempt in which the execution of the node began.
    """
    found: Mapping[str, str] = {RUN: run, NODE: node, NAMESPACE: namespace, ATTEMPT: attempt, BEGAN_IN: began_in}
    return {key: label_value(text) for key, text in found.items() if text}


def label_value(text: str) -> str:
    """The text as the value of a label: lower case, digits, `_` and `-`; a hash at the end of one that is too long."""
    value = re.sub(r"[^a-z0-9_-]", "_", text.lower())
    return value if len(value) <= _LABEL_LENGTH else f"{value[: _LABEL_LENGTH - 9]}-{_digest(text)[:8]}"


def _digest(*parts: str) -> str:
    return hashlib.sha256("\0".join(parts).encode("utf-8", "surrogatepass")).hexdigest()
