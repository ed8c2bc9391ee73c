"""The language of the model files: parse, infer axes, differentiate, compose, write as text and LaTeX. Uses no arrays."""
