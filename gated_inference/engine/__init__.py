"""The embedded engine: one BLOOM model behind OpenAI-shaped HTTP; it knows nothing of the portal."""
