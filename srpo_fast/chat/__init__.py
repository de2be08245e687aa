"""Models that are asked rather than trained: the protocol, and servers that speak OpenAI's chat completions."""
