"""What CuPy loads cuBLAS by; the library itself is cupy/_cublas.py."""
