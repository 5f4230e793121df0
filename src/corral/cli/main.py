"""The command line: names, options and help; knows no work, and imports it only when a command is called."""

from typing import Annotated

import typer

from corral.cli.keys.commands import app as keys

app = typer.Typer(
    name="corral",
    help="One model server out of the machines you own.",
    no_args_is_help=True,
    add_completion=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)

app.add_typer(keys)

ClusterFile = Annotated[
    str | None,
    typer.Option("--cluster", "-c", metavar="FILE", help="Cluster file; without one the cluster is this machine."),
]
AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON document instead of tables.")]


def _version(wanted: bool) -> None:  # noqa: FBT001 - typer's callback
    if wanted:
        from corral import __version__

        typer.echo(f"corral {__version__}")
        raise typer.Exit


@app.callback()
def options(
    *,
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version and exit.")
    ] = False,
    debug: Annotated[bool, typer.Option("--debug", help="Show a traceback with an error; anywhere.")] = False,
) -> None:
    """One model server out of the machines you own."""


@app.command()
def up(
    *,
    model: Annotated[str, typer.Argument(help="A GGUF file, a safetensors folder, or a Hub id.")] = "",
    cluster: ClusterFile = None,
    name: Annotated[str, typer.Option(help="The model's name in the API.")] = "",
    engine: Annotated[str, typer.Option(help="llamacpp or vllm; default: the one that reads the model.")] = "",
    executor: Annotated[str, typer.Option(help="vLLM over nodes: ray or mp; llama.cpp: embedded or server.")] = "",
    layout: Annotated[str, typer.Option(help="Such as tp2, pp2, tp4xpp2, tp2xdp2; default: chosen.")] = "",
    replicas: Annotated[int, typer.Option(help="So many of it, each with devices of its own.", min=1, max=64)] = 1,
    node: Annotated[list[str] | None, typer.Option(help="Use this node alone; may be repeated.")] = None,
    context: Annotated[int, typer.Option(help="Tokens of one request, prompt and answer together.", min=0)] = 0,
    concurrency: Annotated[int, typer.Option(help="Requests in flight to make room for.", min=1)] = 4,
    dtype: Annotated[str, typer.Option(help="Number format of the computation, such as float32.")] = "",
    threads: Annotated[int, typer.Option(help="CPU threads of each rank.", min=0)] = 0,
    host: Annotated[str, typer.Option(help="Address of the endpoint.")] = "",
    port: Annotated[int, typer.Option(help="Port of the endpoint; 0: any.", min=-1, max=65535)] = -1,
    allow_unkeyed: Annotated[
        bool, typer.Option("--allow-unkeyed", help="Serve other machines though nobody is asked for a key.")
    ] = False,
    tls_cert: Annotated[str, typer.Option("--tls-cert", metavar="FILE", help="Serve https: certificate, PEM.")] = "",
    tls_key: Annotated[str, typer.Option("--tls-key", metavar="FILE", help="The certificate's key, PEM.")] = "",
    detach: Annotated[bool, typer.Option("--detach", "-d", help="Leave it running and return when ready.")] = False,
    as_json: AsJson = False,
) -> None:
    """Launch a model and serve it at one OpenAI endpoint."""
    from corral.cli.up import Asked, run_up

    run_up(
        Asked(
            model=model,
            cluster=cluster,
            name=name,
            engine=engine,
            executor=executor,
            layout=layout,
            replicas=replicas,
            nodes=tuple(node or ()),
            context=context,
            concurrency=concurrency,
            dtype=dtype,
            threads=threads,
            host=host or None,
            port=None if port < 0 else port,
            allow_unkeyed=allow_unkeyed,
            tls_cert=tls_cert,
            tls_key=tls_key,
            detach=detach,
            as_json=as_json,
        )
    )


@app.command()
def plan(
    *,
    model: Annotated[str, typer.Argument(help="A catalog id, a Hub id, a config.json, a folder or a GGUF file.")],
    cluster: ClusterFile = None,
    context: Annotated[int, typer.Option(help="Tokens of one request, prompt and answer together.", min=0)] = 0,
    concurrency: Annotated[int, typer.Option(help="Requests in flight.", min=1)] = 1,
    prompt: Annotated[int, typer.Option(help="Tokens of a request's prompt.", min=0)] = 0,
    output: Annotated[int, typer.Option(help="Tokens of its answer.", min=0)] = 0,
    cached: Annotated[int, typer.Option(help="Of the prompt, tokens that the prefix cache answers.", min=0)] = 0,
    engine: Annotated[str, typer.Option(help="Such as vllm, llamacpp, sglang; default: the best that up starts.")] = "",
    quant: Annotated[str, typer.Option(help="Weight format, such as fp8, awq-int4, q4_k_m; default: the best.")] = "",
    kv: Annotated[str, typer.Option(help="Cache format, such as fp8 or q8_0.")] = "auto",
    layout: Annotated[str, typer.Option(help="Such as tp4xpp2, tp2xdp4, tp8xep8; default: the best.")] = "",
    target: Annotated[str, typer.Option(help="speed (of one stream), throughput, context or watts.")] = "speed",
    power_limit: Annotated[float, typer.Option(help="Watts that each device may draw.", min=0)] = 0.0,
    price: Annotated[str, typer.Option(help='Of a kWh, such as "0.18 USD"; default: the cluster file\'s.')] = "",
    without: Annotated[list[str] | None, typer.Option(help="A node to leave out; may be repeated.")] = None,
    compare: Annotated[
        list[str] | None, typer.Option(help="Another cluster file or model, side by side; may be repeated.")
    ] = None,
    top: Annotated[int, typer.Option(help="How many ways to show.", min=1)] = 6,
    why: Annotated[bool, typer.Option("--why", help="Say where the time goes, and what would change it.")] = False,
    svg: Annotated[str, typer.Option(help="Draw nodes, links and ranks into this file.")] = "",
    estimate: Annotated[
        bool, typer.Option("--estimate", help="Count an architecture that is not known as a plain decoder.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Say what fits, split how, how fast, at how many watts."""
    from corral.cli.plan.run import Asking, run_plan

    run_plan(
        Asking(
            model=model,
            cluster=cluster,
            context=context,
            concurrency=concurrency,
            prompt=prompt,
            output=output,
            cached=cached,
            engine=engine,
            quant=quant,
            kv=kv,
            layout=layout,
            target=target,
            power_limit=power_limit,
            price=price,
            without=tuple(without or ()),
            compare=tuple(compare or ()),
            top=top,
            why=why,
            svg=svg,
            estimate=estimate,
            as_json=as_json,
        )
    )


@app.command()
def claims(
    *,
    document: Annotated[str, typer.Argument(help="The number of a source document, such as 001; default: all.")] = "",
    output: Annotated[str, typer.Option("--output", "-o", help="The file to write.")] = "",
    as_json: AsJson = False,
) -> None:
    """Set what the source documents claim beside what Corral computes."""
    from corral.cli.claims import run_claims

    run_claims(document, output, as_json=as_json)


@app.command()
def down(
    *,
    names: Annotated[list[str] | None, typer.Argument(help="Deployments; default: all.")] = None,
    as_json: AsJson = False,
) -> None:
    """End deployments on every node."""
    from corral.cli.down import run_down

    run_down(tuple(names or ()), as_json=as_json)


@app.command()
def status(*, as_json: AsJson = False) -> None:
    """Say what runs where, since when, with which layout, memory and speed."""
    from corral.cli.status import run_status

    run_status(as_json=as_json)


@app.command()
def logs(
    *,
    name: Annotated[str, typer.Argument(help="A deployment; default: the newest.")] = "",
    rank: Annotated[str, typer.Option(help="One rank only.")] = "",
    lines: Annotated[int, typer.Option("--lines", "-n", help="So many of the last lines.", min=0)] = 100,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Go on as lines come.")] = False,
) -> None:
    """Print the logs of a deployment's ranks."""
    from corral.cli.logs import run_logs

    run_logs(name, rank=rank, lines=lines, follow=follow)


@app.command()
def discover(
    *,
    hosts: Annotated[list[str] | None, typer.Argument(help="[user@]host[:port]; default: this machine.")] = None,
    output: Annotated[str | None, typer.Option("--output", "-o", help="The file to write or bring up to date.")] = None,
    user: Annotated[str, typer.Option(help="Who to log in as.")] = "",
    key: Annotated[str, typer.Option(help="Private key file.")] = "",
    known_hosts: Annotated[str, typer.Option(help="Known-hosts file.")] = "",
    jump: Annotated[str, typer.Option(help="[user@]host[:port] to go through.")] = "",
    as_json: AsJson = False,
) -> None:
    """Write the cluster file from the machines themselves."""
    from corral.cli.discover import Way, run_discover

    way = Way(user=user or None, key=key or None, known_hosts=known_hosts or None, jump=jump or None)
    run_discover(tuple(hosts or ()), way, output=output, as_json=as_json)


@app.command()
def events(
    *,
    lines: Annotated[int, typer.Option("--lines", "-n", help="So many of the newest.", min=1)] = 50,
    as_json: AsJson = False,
) -> None:
    """Print what happened, with the reasons."""
    from corral.cli.status import run_events

    run_events(lines, as_json=as_json)


@app.command()
def usage(
    *,
    by: Annotated[str, typer.Option(help="key, model or day.")] = "key",
    since: Annotated[str, typer.Option(help="Such as 7d, or a day such as 2026-11-01 (UTC).")] = "30d",
    key: Annotated[str, typer.Option(help="Of this key alone: its name or id.")] = "",
    model: Annotated[str, typer.Option(help="Of this model alone.")] = "",
    as_json: AsJson = False,
) -> None:
    """Say what was used: requests, tokens and time."""
    from corral.cli.usage import run_usage

    run_usage(by, since, key, model, as_json=as_json)


@app.command()
def catalog(
    *,
    words: Annotated[
        list[str] | None, typer.Argument(metavar="[list [KIND] | search WORDS | show ID]", help="What to look up.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Look up devices, boards, links, switches, engines and models, each fact with its source."""
    from corral.cli.catalog import run_catalog

    run_catalog(tuple(words or ()), as_json=as_json)


@app.command()
def validate(
    *,
    file: Annotated[str, typer.Argument(help="A CSV table in the columns of measured/README.md.")],
    as_json: AsJson = False,
) -> None:
    """Predict each row of a table of measurements, and say how far off the predictions are."""
    from corral.cli.validate import run_validate

    run_validate(file, as_json=as_json)


def _explain(error: Exception) -> int:
    """Print an error as two sentences; gives the exit status."""
    from corral.cli.console import print_error
    from corral.errors import CorralError, ExitCode

    if isinstance(error, BrokenPipeError):
        return int(ExitCode.DONE)
    if isinstance(error, CorralError):
        print_error(error.cause, error.remedy)
        return int(error.code)
    print_error(
        f"Corral itself failed: {type(error).__name__}: {error}.",
        "This is a defect: run the command again with --debug and report what it prints.",
    )
    return int(ExitCode.FAILED)


def run() -> None:
    """Be the program `corral`: errors become two sentences and an exit status, Ctrl-C leaves the terminal whole."""
    import sys

    debug = "--debug" in sys.argv
    sys.argv[1:] = [word for word in sys.argv[1:] if word != "--debug"]
    try:
        app(standalone_mode=True)
    except Exception as error:
        if debug:
            raise
        raise SystemExit(_explain(error)) from None
    except KeyboardInterrupt:
        raise SystemExit(130) from None


if __name__ == "__main__":
    run()
