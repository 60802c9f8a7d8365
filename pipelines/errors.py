"""Mistakes and obstacles that a user can act on, each with its exit code."""

from __future__ import annotations

from collections.abc import Sequence


class CuratrainError(Exception):
    """A message for the user; never shown with a traceback."""

    exit_code = 1


class SpecError(CuratrainError):
    """Everything that is wrong with a spec, at once.

    problems: one line each, starting with the path of the key.
    """

    exit_code = 2

    def __init__(self, problems: Sequence[str], source: str = "the spec") -> None:
        self.problems = list(problems)
        count = len(self.problems)
        noun = "mistake" if count == 1 else "mistakes"
        super().__init__(
            f"{count} {noun} in {source}; nothing was started:\n" + "\n".join(f"  - {p}" for p in problems)
        )


class UsageError(CuratrainError):
    """A command that cannot be carried out as given."""

    exit_code = 2


class StoreError(CuratrainError):
    """The store cannot be read or written."""

    exit_code = 3


class BlockedError(CuratrainError):
    """The run asks for what is not there: resources, or a cluster that does not answer."""

    exit_code = 3
