"""How a step is computed: three parts, any of which goes with any other.

    Trainer ── the loop, and what a batch's loss is (`compute_loss`)
      │
      ├─ stepper     who runs the ops        EagerStep    Python, one after the other   eager.py
      │                                      CapturedStep a CUDA graph, replayed        captured.py
      ├─ precision   how products round,     Precision    as set; bfloat16 on a CPU     precision.py
      │              what gradients carry    ScaledLoss   a scale, for float16
      └─ world       who computes            OneProcess   this process alone            world.py
                                             Ranks        several, on parts of a batch  ranks.py

    gradients:  stepper.compute  ->  forward, backward from share * precision.scale
                                     sums over world, scale taken out, norm clipped
    weights:    stepper.update   ->  world.update, or the graph's AdamW

`recorded.py` holds the graphs of a captured step, `dropout_keys.py` and `prefetch.py` what is fed
to them.
"""
