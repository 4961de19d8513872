"""Teach a GPT to answer instructions: ``tinygrad-llm finetune instructions`` from a clone.

The program is tinygrad_llm/commands/finetune/instructions.py; ``--help`` lists its flags.
"""

from from_clone import run

if __name__ == "__main__":
    raise SystemExit(run("finetune instructions"))
