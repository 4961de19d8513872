"""Turn a GPT into a spam filter: ``tinygrad-llm finetune spam`` from a clone.

The program is tinygrad_llm/commands/finetune/spam.py; ``--help`` lists its flags.
"""

from from_clone import run

if __name__ == "__main__":
    raise SystemExit(run("finetune spam"))
