"""``tinygrad-llm COMMAND``: one module per command, each with ``main(argv)``."""
