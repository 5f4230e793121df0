"""The errors that a person sees: one sentence of cause, one of remedy, an exit code; knows no room."""

from enum import IntEnum


class ExitCode(IntEnum):
    """What a command's exit status means."""

    DONE = 0
    NO = 1  # the answer is no: it does not fit, it is unhealthy, it already runs
    MISUSE = 2  # wrong use, or a bad file
    FAILED = 3  # a node or an engine failed


class CorralError(Exception):
    """A failure that a user can act on.

    `cause` says in one sentence what is wrong and `remedy` in one what to do about it; `code` is the exit status of the
    command that ends with it. The command line prints both and never a traceback (unless asked with --debug).
    """

    code = ExitCode.FAILED

    def __init__(self, cause: str, remedy: str, *, code: ExitCode | None = None) -> None:
        super().__init__(cause)
        self.cause = cause
        self.remedy = remedy
        if code is not None:
            self.code = code

    def __str__(self) -> str:
        return f"{self.cause} {self.remedy}"


class BadInput(CorralError):
    """A file, an option or a request that is wrong as it was given."""

    code = ExitCode.MISUSE


class DoesNotFit(CorralError):
    """The answer is no: the model, the layout or the moment does not allow it."""

    code = ExitCode.NO


class NodeFailed(CorralError):
    """A machine could not be reached or could not do what it was asked."""

    code = ExitCode.FAILED

    def __init__(self, node: str, cause: str, remedy: str) -> None:
        super().__init__(cause, remedy)
        self.node = node


class EngineFailed(CorralError):
    """An engine's rank died, hung or answered wrongly."""

    code = ExitCode.FAILED
