"""What the source documents claim, beside what Corral computes, with every disagreement explained; knows no file.

The documents are five public texts about such clusters: a magazine's article, a homelab guide, a build report, a stack
guide, a research note. What they say is data here, a file a document, each claim with its line.
"""
