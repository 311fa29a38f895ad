"""The examples of docs/embedding.md: what is embedded in them."""
