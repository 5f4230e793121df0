"""`corral plan`: reads the model and the cluster, asks the planner, and shows what it says."""

from collections.abc import Iterator
from pathlib import Path

from corral.cli.console import console, print_error, print_json
from corral.cli.plan.model import PlannedModel, read_model
from corral.cli.plan.work import workload
from corral.cluster.file import load
from corral.cluster.values import Cluster, Price
from corral.errors import BadInput, ExitCode
from corral.planner.plan import Plan
from corral.planner.search.answer import Wishes, plan
from corral.planner.search.degrees import parse_degrees
from corral.planner.search.judge import Asked
from corral.values import Value


class Asking(Value):
    """The options of the command; zero and "" mean: not given."""

    model: str
    cluster: str | None = None
    context: int = 0
    concurrency: int = 1
    prompt: int = 0
    output: int = 0
    cached: int = 0
    engine: str = ""
    quant: str = ""
    kv: str = "auto"
    layout: str = ""
    target: str = "speed"
    power_limit: float = 0.0
    price: str = ""
    without: tuple[str, ...] = ()
    compare: tuple[str, ...] = ()
    top: int = 6
    why: bool = False
    svg: str = ""
    estimate: bool = False
    as_json: bool = False


def run_plan(asking: Asking) -> None:
    """Print the plan; the exit status is 1 when nothing fits."""
    if not all(word.strip() for word in (asking.model, *asking.compare)):
        raise BadInput(
            "No model was named.", "Name one of `corral catalog list models`, a Hub id or files of your own."
        )
    clusters = [_cluster(asking.cluster, asking)]
    models = [_model(asking.model, asking)]
    for word in asking.compare:
        if _is_cluster_file(word):
            clusters.append(_cluster(word, asking))
        else:
            models.append(_model(word, asking))
    plans = [_plan(asking, model, cluster) for model in models for cluster in clusters]
    if asking.svg and plans[0].candidates:
        _draw(plans[0], clusters[0], Path(asking.svg))
    if asking.as_json:
        _print_json(plans)
    else:
        _show(plans, asking)
    if not all(found.candidates for found in plans):
        raise SystemExit(int(ExitCode.NO))


def _plan(asking: Asking, model: PlannedModel, cluster: Cluster) -> Plan:
    work = workload(
        model.architecture.context,
        context=asking.context,
        prompt=asking.prompt,
        output=asking.output,
        cached=asking.cached,
        concurrency=asking.concurrency,
        target=asking.target,
    )
    asked = Asked(
        model=model.architecture,
        work=work,
        weights_bytes=model.weights_bytes,
        weights_by_class=model.weights_by_class,
        power_limit=asking.power_limit or None,
        notes=model.notes,
    )
    wishes = Wishes(
        engine=asking.engine or model.engine,
        weights=model.weights,
        kv=asking.kv,
        layout=parse_degrees(asking.layout) if asking.layout else None,
        without=asking.without,
        top=asking.top,
        why=asking.why or asking.as_json,
    )
    return plan(asked, cluster, wishes)


def _model(name: str, asking: Asking) -> PlannedModel:
    return read_model(name, estimate=asking.estimate).in_format(asking.quant)


def _cluster(name: str | None, asking: Asking) -> Cluster:
    found = load(Path(name)) if name is not None else _this_machine()
    return found.model_copy(update={"price_per_kwh": _price(asking.price)}) if asking.price else found


def _price(text: str) -> Price:
    """Read "0.18" or "0.31 EUR" as the price of a kilowatt hour."""
    amount, _, currency = text.strip().partition(" ")
    try:
        return Price(amount=float(amount), currency=currency.strip() or "USD")
    except ValueError:
        raise BadInput(f"{text[:40]!r} is no price.", 'Write an amount and a currency: --price "0.18 USD".') from None


def _this_machine() -> Cluster:
    import asyncio

    from corral.launcher.discovery import this_machine

    return asyncio.run(this_machine())


def _is_cluster_file(word: str) -> bool:
    return word.endswith((".yaml", ".yml"))


def _draw(found: Plan, cluster: Cluster, path: Path) -> None:
    from corral.cli.picture import picture

    try:
        path.write_text(picture(found, cluster), encoding="utf-8")
    except (OSError, ValueError) as error:  # ValueError: a NUL in the name
        why = getattr(error, "strerror", None) or error
        raise BadInput(f"{str(path)!r} cannot be written: {why}.", "Name another file.") from None


def _print_json(plans: list[Plan]) -> None:
    documents = [found.model_dump(mode="json") for found in plans]
    print_json(documents[0] if len(documents) == 1 else {"schema": "corral.plans/1", "plans": documents})


def _show(plans: list[Plan], asking: Asking) -> None:
    from corral.cli.plan.compare import show_compared
    from corral.cli.plan.table import show
    from corral.cli.plan.why import show_why

    for refused in _refused(plans):
        print_error(refused.why_not or "", refused.remedy or "")
    if len(plans) > 1:
        show_compared(plans, console)
    elif plans[0].candidates:
        show(plans[0], console)
        if asking.why:
            show_why(plans[0], console)
    if asking.svg and plans[0].candidates:
        console.print(f"  picture: {asking.svg}", markup=False, soft_wrap=True)


def _refused(plans: list[Plan]) -> Iterator[Plan]:
    return (found for found in plans if not found.candidates)
