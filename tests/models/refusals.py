"""The one promise of every reader of untrusted files: a value, or an error in words."""

from corral.errors import CorralError


def value_or_words(call):
    """Run `call`; any exception but a well-formed CorralError comes through."""
    try:
        call()
    except CorralError as error:
        refusal = error
    else:
        return
    assert refusal.cause.endswith(".")
    assert refusal.remedy.endswith(".")
