"""What is known of devices, links, switches, boards, engines and models, each fact with source, date and confidence.

The catalog knows no cluster, no plan and no process: data files, and the values they are read into.
"""
