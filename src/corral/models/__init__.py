"""Read what a model is from its files; knows no engine and no machine."""
