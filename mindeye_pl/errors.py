"""The error that a user meets: one line with what is wrong, the value got, the value expected and the fix."""

import re

_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")


def printable(text: str) -> str:
    """Return text without characters that a terminal obeys, such as those of a file's name."""
    return _CONTROL.sub(lambda found: repr(found[0])[1:-1], text)


class UserError(Exception):
    """A user's mistake; the command line prints it as one line and exits with code 2.

    Args:
        what: what is wrong, naming the file or the option.
        got: the value that was found.
        expected: the value that would have been right.
        fix: the command, or the option, that fixes it.
    """

    def __init__(self, what: str, *, got: object = None, expected: object = None, fix: str | None = None):
        self.what, self.got, self.expected, self.fix = what, got, expected, fix
        detail = [f"got: {got}"] if got is not None else []
        detail += [f"expected: {expected}"] if expected is not None else []
        line = what + (f" ({'; '.join(detail)})" if detail else "") + (f". Fix: {fix}" if fix else "")
        super().__init__(printable(" ".join(line.split())))

    def __reduce__(self) -> tuple:
        """Pickle all fields, so that launchers can carry the error between processes."""
        return _rebuild, (self.what, self.got, self.expected, self.fix)


def _rebuild(what: str, got: object, expected: object, fix: str | None) -> UserError:
    return UserError(what, got=got, expected=expected, fix=fix)
