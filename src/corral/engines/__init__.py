"""One pure module an engine: a placement in, commands, environments, files and readiness out; knows no machine."""
