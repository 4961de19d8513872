"""Make a GPT prefer the better of two answers: ``tinygrad-llm finetune preferences`` from a clone.

The program is tinygrad_llm/commands/finetune/preferences.py; ``--help`` lists its flags.
"""

from from_clone import run

if __name__ == "__main__":
    raise SystemExit(run("finetune preferences"))
