"""Formulas written in the letters of the code, typeset as MathML for pages."""
