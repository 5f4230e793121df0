"""HTTP as clients speak it: sockets, exchanges, headers, bodies, browsers; knows no model and no engine."""
