"""What a training step on a GPU needs besides the kernels.

`captured` records a step into a CUDA graph, `prefetch` copies the next batch meanwhile, `keys`
renews dropout's keys between replays, `loss_scale` keeps float16 gradients in range, `chips` says
how fast a GPU could be.
"""
