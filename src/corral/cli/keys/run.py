"""The work of `corral keys`: reads secrets from where they may stand, changes keys, and says what they are."""

import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from corral import credentials
from corral.cli.console import console, print_json, stderr
from corral.cli.keys.table import describe, document, table
from corral.cli.moments import ahead, span
from corral.errors import BadInput, DoesNotFit
from corral.store.keys import KeyStore
from corral.store.keyvalues import Key, limits_of

NEVER: Final = "never"


def run_create(  # what a key is made of
    name: str, limits: Mapping[str, Any], *, expires: str, admin: bool, from_file: str, as_json: bool
) -> None:
    """Make a key and print its secret, once; a secret that came from a file is not repeated."""
    wanted = limits_of(
        {field: value or None for field, value in limits.items() if value is not None} | _priority(limits)
    )
    until = _moment(expires) if expires else None
    secret = _read(from_file) if from_file else credentials.new_secret()
    with KeyStore(time.time) as store:
        key = store.create(name, secret, limits=wanted, expires=until, admin=admin)
    _tell(key, None if from_file else secret, as_json=as_json)


def run_list(*, everything: bool, as_json: bool) -> None:
    """Print all keys that are not revoked, or all that are remembered."""
    with KeyStore(time.time) as store:
        keys = store.listed(revoked=everything)
        configured = store.configured()
    now = time.time()
    if as_json:
        print_json({"schema": "corral.keys/1", "asked": configured, "keys": [document(key, now) for key in keys]})
    elif keys:
        console.print(table(keys, now))
    elif configured:
        console.print(
            "Every key is revoked: nobody can use the endpoint. `corral keys create NAME` makes one.", soft_wrap=True
        )
    else:
        console.print(
            "No keys: the endpoint is for this machine alone. `corral keys create NAME` makes one.", soft_wrap=True
        )


def run_show(called: str, *, as_json: bool) -> None:
    """Print all that is known of a key."""
    with KeyStore(time.time) as store:
        _show(store.get(called), as_json=as_json)


def run_limit(called: str, limits: Mapping[str, Any], *, expires: str, admin: bool | None, as_json: bool) -> None:
    """Change what is given and leave the rest; 0 takes a limit away."""
    fields = {field: value or None for field, value in limits.items() if value is not None} | _priority(limits)
    if expires:
        fields["expires"] = None if expires == NEVER else _moment(expires)
    if admin is not None:
        fields["admin"] = admin
    if not fields:
        raise BadInput("Nothing to change was given.", "Give a limit, such as --rpm 60; 0 takes one away.")
    with KeyStore(time.time) as store:
        _show(store.change(called, **fields), as_json=as_json)


def run_rotate(called: str, *, overlap: str, from_file: str, as_json: bool) -> None:
    """Give a key another secret and print it."""
    seconds = span(overlap) if overlap else 0.0
    secret = _read(from_file) if from_file else credentials.new_secret()
    with KeyStore(time.time) as store:
        key = store.rotate(called, secret, overlap=seconds)
    _tell(key, None if from_file else secret, as_json=as_json)


def run_revoke(called: tuple[str, ...], *, as_json: bool) -> None:
    """Let keys be good for nothing more."""
    with KeyStore(time.time) as store:
        known = [store.get(one) for one in called]  # all or none
        revoked = [store.revoke(key.id) for key in known]
    now = time.time()
    if as_json:
        print_json({"schema": "corral.keys/1", "asked": True, "keys": [document(key, now) for key in revoked]})
    for key in () if as_json else revoked:
        stderr.print(f"{key.name} ({key.id}) is revoked; requests that run now are answered.", soft_wrap=True)


def run_forget(called: tuple[str, ...], *, reopen: bool) -> None:
    """Take revoked keys out of sight; the last one only when it is said that the endpoint may be open again."""
    with KeyStore(time.time) as store:
        known = {key.id: key for key in (store.get(one) for one in called)}
        if not reopen and len(known) == len(store.listed(revoked=True)):
            raise DoesNotFit(
                "Without this last key nobody is asked for one any more.",
                "Say --open if every program on this machine may use the endpoint, or create another key first.",
            )
        for key in known:
            store.forget(key)
    for key in known.values():
        stderr.print(f"{key.name} ({key.id}) is forgotten; its usage stays.", soft_wrap=True)


def _priority(limits: Mapping[str, Any]) -> dict[str, int]:
    """0 is a priority, not the lack of one."""
    return {} if limits.get("priority") is None else {"priority": limits["priority"]}


def _moment(expires: str) -> float:
    return ahead(expires, time.time())


def _read(path: str) -> str:
    """A secret from a file or from standard input, where no list of processes and no shell's history shows it."""
    where = "standard input" if path == "-" else path
    try:
        with sys.stdin.buffer if path == "-" else Path(path).open("rb") as file:
            content = file.read(credentials.LONGEST + 16)
        secret = content.decode("ascii").strip()
    except OSError as error:
        raise BadInput(f"{path} cannot be read: {error.strerror}.", "Give a file that holds one secret.") from None
    except UnicodeDecodeError:
        secret = ""
    if problem := credentials.judge(secret):
        raise BadInput(f"The secret in {where} {problem}.", "Leave out --from-file, and Corral makes one.")
    return secret


def _tell(key: Key, secret: str | None, *, as_json: bool) -> None:
    """Say what came of it: the secret alone on standard output, for `KEY=$(corral keys create ...)`."""
    if as_json:
        print_json({"schema": "corral.key/1", "key": document(key, time.time()), "secret": secret})
        return
    stderr.print(f"{key.name} is {key.id}; {describe(key)}.", soft_wrap=True)
    if secret is not None:
        sys.stdout.write(f"{secret}\n")
        sys.stdout.flush()
        stderr.print("This secret is shown once: Corral keeps only a digest of it.", soft_wrap=True)


def _show(key: Key, *, as_json: bool) -> None:
    now = time.time()
    if as_json:
        print_json({"schema": "corral.key/1", "key": document(key, now)})
        return
    console.print(table((key,), now))
    console.print(f"{key.name}: {describe(key)}.", soft_wrap=True)
