"""What Corral says to a node's shell over SSH; knows no connection.

SSH carries one command string, which every user of the node can read in `ps`, and which the login shell, whatever it
is, takes apart. So that string is constant and plain; environment and arguments follow on standard input, and the
shell replaces itself with the command, which then reads the rest of standard input and whose exit is the session's.
"""

import re
import shlex
from collections.abc import Mapping, Sequence
from typing import Final

# Says its process number (which sshd made the number of a process group too), reads a count of lines, that many
# lines, and a line that gives the start; then becomes the command. `read` takes byte by byte: nothing is read too far.
START: Final = (
    r"exec sh -c '"
    r'printf "\ncorral %s\n" $$; '
    r'corral_n=$(printf "\nx"); corral_n=${corral_n%x}; corral_s=; '
    r"IFS= read -r corral_c || exit 255; "
    r'while [ "$corral_c" -gt 0 ]; do IFS= read -r corral_l || exit 255; '
    r'corral_s="$corral_s$corral_l$corral_n"; corral_c=$((corral_c-1)); done; '
    r"read -r corral_l || exit 255; "
    r'eval "$corral_s"'
    r"'"
)

# One for each connection, asleep in `read`. It ends process groups on demand; when the connection is gone, standard
# input ends, and with it all that was started over the connection and had not ended, within GRACE_SECONDS.
KEEP: Final = (
    r"exec sh -c '"
    r'printf "\ncorral %s\n" $$; k=; '
    r'e() { kill -s "$1" -- "-$2" || kill -s "$1" "$2"; } 2>/dev/null; '
    r"while read -r v p; do case $v in "
    r'watch) k="$k $p";; '
    r'forget) m=; for q in $k; do [ "$q" = "$p" ] || m="$m $q"; done; k=$m;; '
    r'TERM|KILL) e "$v" "$p";; '
    r"esac; done; "
    r'for q in $k; do e TERM "$q"; done; '
    r'for i in 1 2 3 4 5 6 7 8 9 10 11 12; do m=; for q in $k; do e 0 "$q" && m=1; done; '
    r'[ "$m" ] || exit 0; sleep 0.25 || sleep 1; done; '
    r'for q in $k; do e KILL "$q"; done'
    r"'"
)
STARTED: Final = re.compile(rb"\ncorral ([0-9]+)\n")  # whatever a login shell's profile printed before is dropped
GO: Final = b"go\n"
_NAME: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")


def script(argv: Sequence[str], env: Mapping[str, str]) -> bytes:
    """Write what START reads: the count, then the environment and the command as shell lines.

    ValueError when there is no command, for a NUL byte, and for a variable's name that a shell does not take.
    """
    for name in env:
        if not _NAME.fullmatch(name):
            raise ValueError(f"{name!r} cannot be the name of an environment variable")
    exports = "".join(f"export {name}={shlex.quote(value)}\n" for name, value in env.items())
    text = f"{exports}exec {shlex.join(argv)}\n".encode(errors="surrogateescape")
    if not argv or b"\0" in text:
        raise ValueError("a command has a program, and no NUL byte in its arguments and environment")
    return b"%d\n%s" % (text.count(b"\n"), text)


def order(verb: str, group: int) -> bytes:
    """Write an order to KEEP: watch, forget, TERM or KILL a process group."""
    return f"{verb} {group}\n".encode()
