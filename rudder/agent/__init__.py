"""The agent: metrics, context, and a language model that decides."""
