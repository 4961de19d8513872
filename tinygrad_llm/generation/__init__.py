"""Writing text with a model: sampling, streaming, beams; and judging text by a model.

The modules:

    generate         one call from prompts to finished rows
    generate_text    the same for text, piece by piece as it comes
    scoring          perplexity, next-token tables, comparing two models
    open_checkpoint  a model and its tokenizer from one folder
"""
