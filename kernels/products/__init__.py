"""Matrix products by NVIDIA's libraries; public functions as kernels.matmul, kernels.linear etc.

    matmul.py       op(A) op(B), sums in float32
    linear.py       a linear layer, GELU after it, their gradients, in as few launches as possible
    epilogues.py    products that add a bias, take GELU or sum a bias's gradient on the way
    cublas.py       the library cuBLAS, called by ctypes
    cublas_lt.py    the library cuBLASLt, called by ctypes: plans for products with an epilogue
"""
