"""Closed lists of words that are stored, and so may be read by an operator that does not know all of them."""

from enum import StrEnum


class OpenEnum(StrEnum):
    """A value_ of a list that grows. After a rollback one may be read that a later version has added.

    Such a value_ is equal to none of the list and keeps its text. Where a status is written it is left out, as a CRD of
    this version would refuse the whole status for it.
    """

    @classmethod
    def _missing_(cls, value: object) -> "OpenEnum | None":
        if not isinstance(value, str):
            return None
        value_ = str.__new__(cls, value)
        value_._name_, value_._value_ = "UNKNOWN", value
        return value_

    @property
    def known(self) -> bool:
        """Whether it is one of the list."""
        return self._value_ in type(self)._value2member_map_
