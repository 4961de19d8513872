"""Fused attention, forward, backward and for generation; public functions as kernels.attention etc.

    forward.py             softmax(Q K^T) V without the scores in memory; attention, attention_qkv
    backward.py            its gradients by a pair of kernels, the same bits in every run
    backward_one_pass.py   its gradients in one pass, five products in place of seven
    gradients.py           chooses between the two; attention_backward, attention_qkv_backward
    decode.py              one query against a cache of keys and values; attention_decode
    tiles.py               blocks of a head inside the kernels
    heads.py               arrays of heads on the host: checks, views, strides
    configs.py, order.py   sizes of tiles for each chip; which block of queries comes when
"""
