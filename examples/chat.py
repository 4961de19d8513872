"""Talk with a tuned model in the terminal: ``tinygrad-llm chat`` from a clone.

The program is tinygrad_llm/commands/chat.py; ``--help`` lists its flags.
"""

from from_clone import run

if __name__ == "__main__":
    raise SystemExit(run("chat"))
