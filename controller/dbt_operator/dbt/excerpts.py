"""The lines of a query around its error, which the runner prints beside the message of the database.

They are kept apart from the message. The message decides whether two nodes failed for the same cause, and the text of
a query may hold anything. Only what is shown has both.
"""

from dbt_operator.dbt.values import MESSAGE_LIMIT, shorten

_LIMIT = 600  # bytes: more than half of a message is not taken for it
_HEADING = "\n\nIn the query:\n"


def with_excerpt(message: str, excerpt: str) -> str:
    """The message to show, of at most MESSAGE_LIMIT bytes; it is the message that is cut."""
    if not excerpt:
        return message
    shown = f"{_HEADING}{shorten(excerpt, limit=_LIMIT)}"
    return shorten(message, limit=MESSAGE_LIMIT - len(shown.encode())) + shown


def without_excerpt(message: str) -> tuple[str, str]:
    """The message and the excerpt of what was shown."""
    text, _, excerpt = message.partition(_HEADING)
    return text, excerpt
