"""What runs ON a node to carry things out: single files of the standard library; import nothing of the package."""
