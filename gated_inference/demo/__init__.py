"""The stand-in model that shows the portal at work: its weights, and how they were trained."""
