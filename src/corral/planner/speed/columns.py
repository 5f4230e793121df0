"""What a row's measured columns should hold by an estimate, in the columns' units; knows no measured value."""

from collections.abc import Mapping

from corral.planner.speed.load import Estimate
from corral.planner.speed.rows import Conventions, Metric


def expected(estimate: Estimate, conventions: Conventions) -> Mapping[Metric, float]:
    """The value of each measured column, as a source with these conventions would have counted."""
    since_first = conventions.from_first_token or conventions.apart
    return {
        "decode": estimate.decode,
        "prefill": estimate.prompt_tokens / estimate.ttft if conventions.by_client else estimate.prefill,
        "ttft": estimate.ttft * 1000.0,
        "output": estimate.output_decoding if since_first else estimate.output,
    }
