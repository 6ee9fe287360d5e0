"""The error that a user meets: one line with what is wrong, the value got, the value expected and the fix."""


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
        super().__init__(" ".join(line.split()))

    def __reduce__(self) -> tuple:
        """Pickle all fields, so that launchers can carry the error between processes."""
        return _rebuild, (self.what, self.got, self.expected, self.fix)


def _rebuild(what: str, got: object, expected: object, fix: str | None) -> UserError:
    return UserError(what, got=got, expected=expected, fix=fix)
