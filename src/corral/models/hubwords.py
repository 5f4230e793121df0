"""The Hub library's errors as sentences; fetches nothing."""

import errno

from huggingface_hub import constants, errors

from corral.errors import BadInput, CorralError
from corral.models.source import ModelSource

# (library's error, ours, cause, remedy): the first whose type matches; subclasses stand before their bases.
_WORDS: tuple[tuple[type[Exception], type[CorralError], str, str], ...] = (
    (
        errors.GatedRepoError,
        CorralError,
        "{repo} is gated: its owner asks for consent first.",
        "Open {endpoint}/{repo}, agree there, and set HF_TOKEN to a token of yours.",
    ),
    (
        errors.RevisionNotFoundError,
        BadInput,
        "{repo} has no revision {revision!r}.",
        "Name a branch, a tag or a commit, or none.",
    ),
    (
        errors.RepositoryNotFoundError,
        BadInput,
        "The Hub has no model {repo}, or it is private; and no file of that name is here.",
        "Check the spelling; for a private model set HF_TOKEN.",
    ),
    (errors.HFValidationError, BadInput, "{repo} is no Hub id.", "Write OWNER/NAME."),
    (
        errors.OfflineModeIsEnabled,
        CorralError,
        "{repo} is not here, and HF_HUB_OFFLINE forbids to fetch it.",
        "Unset HF_HUB_OFFLINE, or give a model that is here.",
    ),
    (
        errors.HfHubHTTPError,
        CorralError,
        "The Hub at {endpoint} answered for {repo}: {says}.",
        "Try again later; what was fetched is kept and is not fetched again.",
    ),
    (
        Exception,
        CorralError,
        "{repo} could not be fetched from {endpoint}: {says}.",
        "Check the network and try again (what was fetched is kept), or give a model that is here.",
    ),
)


def in_words(error: Exception, source: ModelSource) -> CorralError:
    """What went wrong in a fetch, and what to do about it."""
    if isinstance(error, OSError) and error.errno in {errno.ENOSPC, errno.EDQUOT}:
        return CorralError(f"The disk filled up while {source.repo} was fetched.", "Free some space, and try again.")
    if isinstance(error, PermissionError | NotADirectoryError) and error.filename:
        return CorralError(
            f"{error.filename} cannot be written: {error.strerror}.", "Name another cache folder in the cluster file."
        )
    kind, cause, remedy = next(
        (ours, what, do) for library, ours, what, do in _WORDS if issubclass(type(error), library)
    )
    facts = {
        "repo": source.repo,
        "revision": source.revision,
        "endpoint": constants.ENDPOINT,
        "says": _first_line(error),
    }
    return kind(cause.format(**facts), remedy.format(**facts))


def _first_line(error: Exception) -> str:
    text = str(error).strip().splitlines()
    return (text[0] if text else type(error).__name__).rstrip(".")[:200]
