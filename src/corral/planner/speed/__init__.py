"""How fast a model runs on a layout, by terms that add up to a step; knows no cluster file and no process."""
