"""What runs ON a node to learn facts: single files of the standard library; import nothing of the package."""
