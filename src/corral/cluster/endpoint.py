"""How the endpoint is served, as the cluster file or the command line says it; knows no socket and no database."""

from collections.abc import Mapping
from typing import Annotated, Any, Literal, Self

from pydantic import Field, model_validator
from pydantic_core import PydanticCustomError

from corral.cluster.quantities import Text
from corral.values import Value


class EndpointSettings(Value):
    """What was said of the endpoint; None: nothing, so that what is usual holds."""

    host: Text | None = None  # an address or a name of this machine
    port: Annotated[int, Field(ge=0, le=65535)] | None = None  # 0: any free one
    tls_cert: Text | None = None  # path of a PEM file on this machine
    tls_key: Text | None = None
    key_required: Literal["if-any", "always", "never"] | None = None  # for a request; "if-any": once there is one

    @model_validator(mode="after")
    def _hangs_together(self) -> Self:
        if (self.tls_cert is None) != (self.tls_key is None):
            there, lacking = ("tls_cert", "tls_key") if self.tls_key is None else ("tls_key", "tls_cert")
            message = '"{there}" is given without "{lacking}"'
            raise PydanticCustomError("endpoint", message, {"there": there, "lacking": lacking})
        return self

    def under(self, over: "EndpointSettings") -> "EndpointSettings":
        """These settings, but for what `over` says."""
        said: Mapping[str, Any] = {name: value for name, value in over if value is not None}
        return self.model_copy(update=dict(said))
