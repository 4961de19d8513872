"""See cupy/_cublas.py."""
