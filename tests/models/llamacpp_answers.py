"""Asks a GGUF through the embedded engine, in a process of its own: FILE and a JSON list of requests -> JSON answers.

A request is [path, body]; llama.cpp's log goes to standard error.
"""

import json
import sys
import urllib.request

import xllamacpp


def main(path, requests):
    params = xllamacpp.CommonParams()
    params.model.path = path
    params.hostnames = ["127.0.0.1"]
    params.port = 0
    params.n_parallel = 1
    params.cpuparams.n_threads = 1  # more would spin against whatever else the machine does
    server = xllamacpp.Server(params)
    answers = []
    for route, body in requests:
        request = urllib.request.Request(
            server.listening_address + route, json.dumps(body).encode(), {"content-type": "application/json"}
        )
        with urllib.request.urlopen(request, timeout=30) as response:
            answers.append(json.load(response))
    sys.stdout.write(f"\n{json.dumps(answers)}\n")


if __name__ == "__main__":
    main(sys.argv[1], json.load(sys.stdin))
