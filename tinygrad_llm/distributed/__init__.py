"""Training on several processes: sums over MPI and NCCL. See docs/scaling.md.

    communicator   the operations, and the bytes they cost      mpi, nccl   two that carry them out
    buckets        gradients summed during the backward pass    sharding    optimizer state in parts
    world          who takes part, and what happens when one fails

`training.distributed` builds the training loop on it.
"""

from tinygrad_llm.distributed.buckets import GradientSum, make_buckets
from tinygrad_llm.distributed.communicator import Alone, Communicator, Traffic, Work, even_bounds
from tinygrad_llm.distributed.sharding import ShardedUpdate
from tinygrad_llm.distributed.world import join_world, require_equal, run_together, with_gpus

__all__ = [
    "Alone",
    "Communicator",
    "GradientSum",
    "ShardedUpdate",
    "Traffic",
    "Work",
    "even_bounds",
    "join_world",
    "make_buckets",
    "require_equal",
    "run_together",
    "with_gpus",
]
