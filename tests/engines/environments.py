"""The real engines' environments, made on this machine by the scripts that nodes run; the lab's machines share them.

They have no way to a package index, so that what they need must stand before one of them is asked for it.
"""

import json
import subprocess
import sys
from functools import cache
from pathlib import Path

from corral.engines.base import LlamaCppBuild

SCRIPTS = Path(__file__).parents[2] / "src/corral/launcher/onnode"
CACHE = Path.home() / ".cache" / "corral"


@cache
def made(wanted):
    """The folder of an environment, made if it is not there yet (vLLM: a minute; llama.cpp: five on two cores)."""
    request = {"cache": str(CACHE), "digest": wanted.digest, **wanted.model_dump(mode="json")}
    script = "llamacpp_build.py" if isinstance(wanted, LlamaCppBuild) else "environment.py"
    with subprocess.Popen(
        [sys.executable, str(SCRIPTS / script)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        process.stdin.write(json.dumps(request) + "\n")
        process.stdin.flush()
        told = json.loads(list(process.stdout)[-1])
    assert "done" in told, told
    return told["done"]["folder"]
