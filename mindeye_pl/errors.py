"""The one error that a user meets: one line that says what is wrong and what mends it."""


class UserError(Exception):
    """A mistake that the user can mend; the command line prints it as one line and exits with code 2.

    Args:
        what: what is wrong, naming the file or the option.
        seen: the value met.
        wanted: the value that would have been right.
        mend: the command, or the option, that puts it right.
    """

    def __init__(self, what: str, *, seen: object = None, wanted: object = None, mend: str | None = None):
        self.what, self.seen, self.wanted, self.mend = what, seen, wanted, mend
        detail = [f"seen: {seen}"] if seen is not None else []
        detail += [f"wanted: {wanted}"] if wanted is not None else []
        line = what + (f" ({'; '.join(detail)})" if detail else "") + (f". Mend: {mend}" if mend else "")
        super().__init__(" ".join(line.split()))

    def __reduce__(self) -> tuple:
        """Pickles whole, so that launchers can carry it between processes."""
        return _rebuild, (self.what, self.seen, self.wanted, self.mend)


def _rebuild(what: str, seen: object, wanted: object, mend: str | None) -> UserError:
    return UserError(what, seen=seen, wanted=wanted, mend=mend)
