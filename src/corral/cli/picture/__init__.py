"""A plan as a picture: nodes, devices, domains, links, ranks and what they hold; knows no search and no file."""

from corral.cli.picture.draw import picture

__all__ = ["picture"]
