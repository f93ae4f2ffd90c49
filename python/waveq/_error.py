"""The one exception type of the package."""
from __future__ import annotations

from typing import Sequence


class Error(Exception):
    """What waveq raises wherever something is wrong with a model, data, a file or an argument.

    code: one of invalid_argument, io, parse, unsupported, shape, data, not_integer, overflow, mismatch, internal
    where: node, tensor or file as the user knows it
    what: what was found there
    hint: what to do about it; may be empty
    context: what waveq was doing, innermost first
    """

    def __init__(self, code: str, where: str, what: str, hint: str = "", context: Sequence[str] = ()) -> None:
        self.code = code
        self.where = where
        self.what = what
        self.hint = hint
        self.context = list(context)
        message = f"{where}: {what}" if where else what
        if hint:
            message += f"; {hint}"
        super().__init__("\n".join([message, *(f"  while {line}" for line in self.context)]))

    def __reduce__(self):
        return type(self), (self.code, self.where, self.what, self.hint, self.context)
