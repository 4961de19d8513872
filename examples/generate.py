"""Let a model write: ``tinygrad-llm generate`` from a clone.

The program is tinygrad_llm/commands/generate.py; ``--help`` lists its flags.
"""

from from_clone import run

if __name__ == "__main__":
    raise SystemExit(run("generate"))
