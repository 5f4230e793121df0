"""Starts the embedded llama.cpp, whose log says what it took, and ends: FILE and a JSON of parameters."""

import json
import os
import sys
import time

import xllamacpp


def main(path, changes):
    params = xllamacpp.CommonParams()
    params.model.path = path
    params.hostnames = ["127.0.0.1"]
    params.port = 0
    params.warmup = False
    params.fit_params = False
    params.ui = False
    params.verbosity = 4  # buffers are told of only when asked
    params.no_extra_bufts = True  # weights as they are in the file, not repacked for this CPU
    params.cpuparams.n_threads = 1
    for name, value in changes.items():
        kept = getattr(xllamacpp.ggml_type, value) if name.startswith("cache_type") else value
        setattr(params, name, kept)
    server = xllamacpp.Server(params)
    time.sleep(0.3)  # the log is written by a thread of its own
    os._exit(0 if server.listening_address else 1)


if __name__ == "__main__":
    main(sys.argv[1], json.loads(sys.argv[2]))
