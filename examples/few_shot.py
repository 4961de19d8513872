"""Solve a task by examples in the prompt: ``tinygrad-llm few-shot`` from a clone.

The program is tinygrad_llm/commands/few_shot.py; ``--help`` lists its flags.
"""

from from_clone import run

if __name__ == "__main__":
    raise SystemExit(run("few-shot"))
