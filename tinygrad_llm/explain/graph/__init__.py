"""The recorded graph as a drawing."""
