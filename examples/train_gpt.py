"""Train a GPT on text: ``tinygrad-llm train`` from a clone.

The program is tinygrad_llm/commands/train.py; ``--help`` lists its flags.
"""

from from_clone import run

if __name__ == "__main__":
    raise SystemExit(run("train"))
