"""How the endpoint is served, as the cluster file or the command line says it; knows no socket and no database."""

from collections.abc import Mapping
from typing import Annotated, Any, Literal, Self

from pydantic import Field, StringConstraints, model_validator
from pydantic_core import PydanticCustomError

from corral.cluster.quantities import Bytes, Seconds, Text
from corral.units import KIB
from corral.values import Value

HostName = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9]([A-Za-z0-9.-]{0,251}[A-Za-z0-9])?$")]


class EndpointSettings(Value):
    """What was said of the endpoint; None: nothing, so that what is usual holds (docs/cluster-file.md says what)."""

    host: Text | None = None  # an address or a name of this machine
    port: Annotated[int, Field(ge=0, le=65535)] | None = None  # 0: any free one
    host_names: tuple[HostName, ...] | None = None  # by which browsers may reach it while nobody is asked for a key
    tls_cert: Text | None = None  # path of a PEM file on this machine
    tls_key: Text | None = None
    key_required: Literal["if-any", "always", "never"] | None = None  # for a request; "if-any": once there is one
    workers: Annotated[int, Field(ge=0, le=64)] | None = None  # processes that answer; 0: the head answers itself
    access_log: bool | None = None  # a line of JSON for each request, in the head's log
    body_limit: Annotated[Bytes, Field(ge=KIB)] | None = None  # of a request
    heartbeat: Annotated[Seconds, Field(ge=0.1)] | None = None  # between two signs of life to who waits for a stream
    idle_stream: Annotated[Seconds, Field(ge=1)] | None = None  # that an engine may be silent within a stream
    queue: Annotated[int, Field(ge=1, le=1_000_000)] | None = None  # requests that wait for one model
    patience: Annotated[Seconds, Field(ge=0.1)] | None = None  # that a request waits for a place at an engine
    load_patience: Annotated[Seconds, Field(ge=0.1)] | None = None  # that it waits for a model that loads

    @model_validator(mode="after")
    def _hangs_together(self) -> Self:
        for there, lacking in (("tls_cert", "tls_key"), ("tls_key", "tls_cert")):
            if getattr(self, there) is not None and getattr(self, lacking) is None:
                what = f'a TLS certificate and its key go together, and "{lacking}" is not there'
                # The place travels in the context, so that a file's reader can name the line.
                raise PydanticCustomError("cluster", "{what}", {"what": what, "place": ("gateway", there)})
        return self

    def under(self, over: "EndpointSettings") -> "EndpointSettings":
        """These settings, but for what `over` says."""
        said: Mapping[str, Any] = {name: value for name, value in over if value is not None}
        return self.model_copy(update=dict(said))
