"""Several processes that answer requests for one desk; knows no key, no queue and no route: it carries messages."""
