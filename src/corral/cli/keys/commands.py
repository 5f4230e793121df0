"""The names, options and help of `corral keys`; knows no work, and imports it only when a command is called."""

from typing import Annotated, Any, Final

import typer

app = typer.Typer(
    name="keys", help="Create, list, limit and revoke API keys.", no_args_is_help=True, rich_markup_mode=None
)

_NO_LIMIT: Final = "; 0: no limit"
AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON document.")]
Called = Annotated[str, typer.Argument(metavar="NAME", help="A key's name or id.")]
AllCalled = Annotated[list[str], typer.Argument(metavar="NAME...", help="Keys' names or ids.")]
Models = Annotated[list[str] | None, typer.Option("--model", help="A model that it may use; may be repeated.")]
Rpm = Annotated[int | None, typer.Option("--rpm", help=f"Requests a minute{_NO_LIMIT}.", min=0)]
Tpm = Annotated[int | None, typer.Option("--tpm", help=f"Tokens a minute, prompts and answers{_NO_LIMIT}.", min=0)]
PerDay = Annotated[int | None, typer.Option("--tokens-per-day", help=f"Tokens of a UTC day{_NO_LIMIT}.", min=0)]
Concurrent = Annotated[int | None, typer.Option("--concurrent", help=f"Requests at once{_NO_LIMIT}.", min=0)]
Priority = Annotated[int | None, typer.Option("--priority", help="Higher goes first; 0 is usual.", min=-100, max=100)]
Expires = Annotated[str, typer.Option("--expires", help="Such as 30d or 2027-01-31.")]
FromFile = Annotated[
    str, typer.Option("--from-file", metavar="FILE", help="Take this file's secret (-: standard input).")
]


@app.command()
def create(
    *,
    name: Annotated[str, typer.Argument(help="What to call it.")],
    model: Models = None,
    rpm: Rpm = None,
    tpm: Tpm = None,
    tokens_per_day: PerDay = None,
    concurrent: Concurrent = None,
    priority: Priority = None,
    expires: Expires = "",
    admin: Annotated[bool, typer.Option("--admin", help="It may use /api too.")] = False,
    from_file: FromFile = "",
    as_json: AsJson = False,
) -> None:
    """Make a key and print its secret, once."""
    from corral.cli.keys.run import run_create

    limits = _limits(model, rpm, tpm, tokens_per_day, concurrent, priority)
    run_create(name, limits, expires=expires, admin=admin, from_file=from_file, as_json=as_json)


@app.command("list")
def list_keys(
    *,
    everything: Annotated[bool, typer.Option("--all", help="Those that are revoked too.")] = False,
    as_json: AsJson = False,
) -> None:
    """Print the keys, newest first."""
    from corral.cli.keys.run import run_list

    run_list(everything=everything, as_json=as_json)


@app.command()
def show(*, name: Called, as_json: AsJson = False) -> None:
    """Print one key."""
    from corral.cli.keys.run import run_show

    run_show(name, as_json=as_json)


@app.command()
def limit(
    *,
    name: Called,
    model: Models = None,
    all_models: Annotated[bool, typer.Option("--all-models", help="It may use every model.")] = False,
    rpm: Rpm = None,
    tpm: Tpm = None,
    tokens_per_day: PerDay = None,
    concurrent: Concurrent = None,
    priority: Priority = None,
    expires: Annotated[str, typer.Option("--expires", help="Such as 30d or 2027-01-31, or never.")] = "",
    admin: Annotated[bool | None, typer.Option("--admin/--no-admin", help="Whether it may use /api.")] = None,
    rename: Annotated[str, typer.Option("--rename", help="What to call it from now on.")] = "",
    as_json: AsJson = False,
) -> None:
    """Change what a key may do; what is not named stays."""
    from corral.cli.keys.run import run_limit

    limits = _limits(model, rpm, tpm, tokens_per_day, concurrent, priority)
    if all_models:
        limits["models"] = ()
    if rename:
        limits["name"] = rename
    run_limit(name, limits, expires=expires, admin=admin, as_json=as_json)


@app.command()
def rotate(
    *,
    name: Called,
    overlap: Annotated[str, typer.Option("--overlap", help="How long the old secret is good too, such as 1h.")] = "",
    from_file: FromFile = "",
    as_json: AsJson = False,
) -> None:
    """Give a key another secret; name, limits and usage stay."""
    from corral.cli.keys.run import run_rotate

    run_rotate(name, overlap=overlap, from_file=from_file, as_json=as_json)


@app.command()
def revoke(*, names: AllCalled, as_json: AsJson = False) -> None:
    """Let keys be good for nothing more, for good."""
    from corral.cli.keys.run import run_revoke

    run_revoke(tuple(names), as_json=as_json)


@app.command()
def forget(
    *,
    names: AllCalled,
    reopen: Annotated[
        bool, typer.Option("--open", help="Also the last one, after which nobody on this machine is asked for a key.")
    ] = False,
) -> None:
    """Take revoked keys out of sight; when all are forgotten, the endpoint asks for no key."""
    from corral.cli.keys.run import run_forget

    run_forget(tuple(names), reopen=reopen)


def _limits(
    models: list[str] | None,
    rpm: int | None,
    tpm: int | None,
    tokens_per_day: int | None,
    concurrent: int | None,
    priority: int | None,
) -> dict[str, Any]:
    """The limits that were given, by the names of their fields; 0 stands for none."""
    return {
        "models": tuple(models) if models else None,
        "requests_per_minute": rpm,
        "tokens_per_minute": tpm,
        "tokens_per_day": tokens_per_day,
        "concurrent": concurrent,
        "priority": priority,
    }
