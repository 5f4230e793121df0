"""What lines of llama.cpp's logs mean: each pattern was seen in a real log; knows no rank and no machine.

A model that cannot be loaded makes llama.cpp write a chain of errors; the first names the cause (depth 0), the rest
only say that loading failed and have no entry. A lost RPC worker is a consequence (depth 2): its own log comes first.
"""

from corral.engines.base import Symptom

_FETCH_AGAIN = "Fetch or convert the file again; compare its size with the original's."

_FILE = (
    Symptom(
        id="llamacpp.no-file",
        pattern=r"failed to open GGUF file '(?P<file>[^']+)' \((?P<why>[^)]+)\)",
        cause="The model's file {file} cannot be opened: {why}.",
        remedy="Check the path and its permissions on that node; every part of a file in several parts is needed.",
        depth=0,
    ),
    Symptom(
        id="llamacpp.not-gguf",
        pattern=r"invalid magic characters: '(?P<magic>[^']*)', expected 'GGUF'|failed to read magic",
        cause="The model's file is no GGUF file.",
        remedy="Name a GGUF file; convert other formats with llama.cpp's convert_hf_to_gguf.py.",
        depth=0,
    ),
    Symptom(
        id="llamacpp.header",
        pattern=r"gguf_init_from_reader\S*: failed to read (?P<what>key-value pairs|tensor info|header)",
        cause="The header of the model's GGUF file is cut off or damaged: its {what} cannot be read.",
        remedy=_FETCH_AGAIN,
        depth=0,
    ),
    Symptom(
        id="llamacpp.truncated",
        pattern=r"tensor '(?P<tensor>[^']+)' data is not within the file bounds",
        cause="The model's GGUF file ends before its tensor {tensor}: it is incomplete.",
        remedy=_FETCH_AGAIN,
        depth=0,
    ),
)
_MODEL = (
    Symptom(
        id="llamacpp.architecture",
        pattern=r"unknown model architecture: '(?P<architecture>[^']+)'",
        cause="This llama.cpp does not know the architecture {architecture}.",
        remedy="Choose another model or engine, or name a newer llama.cpp's folder in the cluster file.",
        depth=0,
    ),
    Symptom(
        id="llamacpp.tensor-missing",
        pattern=r"tensor '(?P<tensor>[^']+)' not found",
        cause="The model's GGUF file has no tensor {tensor}, which its architecture needs.",
        remedy="Fetch or convert the file again with a current converter.",
        depth=0,
    ),
    Symptom(
        id="llamacpp.tensor-shape",
        pattern=r"tensor '(?P<tensor>[^']+)' has wrong shape; expected\s+(?P<expected>[\d, ]+), got\s+(?P<got>[\d, ]+)",
        cause="The tensor {tensor} of the model's GGUF file has the wrong shape: {got} in place of {expected}.",
        remedy="Fetch or convert the file again with a current converter.",
        depth=0,
    ),
    Symptom(
        id="llamacpp.key-missing",
        pattern=r"key not found in model: (?P<key>\S+)",
        cause="The model's GGUF header has no {key}, which its architecture needs.",
        remedy="Fetch or convert the file again with a current converter.",
        depth=0,
    ),
    Symptom(
        id="llamacpp.vocabulary",
        pattern=r"error loading model vocabulary: (?P<why>.+)",
        cause="The tokenizer in the model's GGUF file cannot be used: {why}.",
        remedy="Convert the model again with a current converter.",
        depth=0,
    ),
)
_MEMORY = (
    Symptom(
        id="llamacpp.memory",
        pattern=r"failed to allocate (?P<device>\S+) buffer of size (?P<bytes>\d+)",
        cause="There is not enough memory on {device}: {bytes} bytes could not be had.",
        remedy="Ask for less context or fewer requests at once, choose a smaller quantization, or add a node.",
        depth=0,
    ),
    Symptom(
        id="llamacpp.memory-worker",
        pattern=r"insufficient memory \(attempted to allocate (?P<mib>[\d.]+) MB\)",
        cause="There is not enough memory on the node: {mib} MiB could not be had.",
        remedy="Ask for less context or fewer requests at once, choose a smaller quantization, or add a node.",
    ),
    Symptom(
        id="llamacpp.context-memory",
        pattern=r"failed to initialize the context: (?P<why>.+)",
        cause="There was no room for the context asked for: {why}.",
        remedy="Ask for less context or fewer requests at once.",
    ),
)
_PROCESS = (
    Symptom(
        id="llamacpp.port",
        pattern=r"couldn't bind HTTP server socket, hostname: (?P<host>\S+), port: (?P<port>\d+)",
        cause="The port {port} on {host} is taken by another program.",
        remedy="Try again: another port is chosen at each start.",
        depth=0,
    ),
    Symptom(
        id="llamacpp.rpc-bind",
        pattern=r"Failed to create server socket",
        cause="The RPC worker could not listen: its port is taken, or the node does not have its fabric address.",
        remedy="Compare the node's addresses (ip addr) with the cluster file, and try again.",
        depth=0,
    ),
    Symptom(
        id="llamacpp.device",
        pattern=r"(?:unknown|invalid) device: (?P<device>\S+)",
        cause="llama.cpp sees no device {device} on the node.",
        remedy="Check the driver (nvidia-smi, rocminfo) and that llama.cpp was built for this accelerator.",
        depth=0,
    ),
    Symptom(
        id="llamacpp.option",
        pattern=r"error: invalid argument: (?P<option>\S+)",
        cause="This llama.cpp does not know the option {option}: it is another version than Corral expects.",
        remedy="Leave the environment of this node to Corral, or name a newer llama.cpp's folder.",
        depth=0,
    ),
    Symptom(
        id="llamacpp.rpc-unreachable",
        pattern=r"Failed to connect to (?P<worker>[\d.]+:\d+)",
        cause="The server could not reach the RPC worker at {worker}.",
        remedy="Check the link and the firewall between the nodes' fabric addresses.",
    ),
    Symptom(
        id="llamacpp.rpc-lost",
        pattern=r"Remote RPC server crashed or returned malformed response",
        cause="An RPC worker ended or its connection broke, and llama.cpp's server ends with it.",
        remedy="Look at the workers' logs and nodes (memory, power, network), then start again.",
        depth=2,
    ),
)

SYMPTOMS: tuple[Symptom, ...] = _FILE + _MODEL + _MEMORY + _PROCESS
