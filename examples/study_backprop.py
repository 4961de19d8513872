"""Walk through a real GPT's training step: ``tinygrad-llm study`` from a clone.

The program is tinygrad_llm/commands/study.py; ``--help`` lists its flags.
"""

from from_clone import run

if __name__ == "__main__":
    raise SystemExit(run("study"))
