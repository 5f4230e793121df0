"""The OpenAI endpoint: requests in, an upstream's answer out; knows no engine by name."""
