"""The desk's bounds; plain data."""

import msgspec


class DeskSettings(msgspec.Struct, frozen=True, kw_only=True):
    """What holds for every model. Times are seconds."""

    longest_wait: float = 120.0  # for a place at an engine
    longest_load: float = 600.0  # for a model that loads
    queue_limit: int = 512  # requests that wait for one model
    ageing: int = 8  # requests of one priority that may pass a waiting one of the next lower priority
    prefix_entries: int = 8192  # blocks of prompts that are remembered by replica
    demand_kept: float = 60.0  # after the last request for it, a model that is not loaded is asked for so long
    failures: int = 3  # that open a breaker; an answer makes up for half a failure
    trials: int = 3  # real requests, one after the other, that close it again
    first_pause: float = 0.25  # before the first probe; doubled by each that fails
    longest_pause: float = 30.0
    longest_pause_alone: float = 1.0  # where no other replica of the model answers
    probe_timeout: float = 60.0  # a probe that nobody reported on is asked for anew
    failure_seconds: float = 2.0  # what a failure adds to a replica's backlog; an answer takes it away
