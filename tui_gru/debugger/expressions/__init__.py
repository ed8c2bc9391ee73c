"""The language of conditions and watches: parser, compiler, values."""
