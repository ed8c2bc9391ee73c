"""`python -m tui_gru`, and the `tui-gru` command."""

import os
import sys

# Before NumPy is loaded. The matrices are small: a second thread costs more than it does, ten times more on a busy machine,
# and the last bits of a product may depend on how many threads shared it.
for variable in ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ.setdefault(variable, "1")


def main() -> None:
    """Run the command line and leave with its exit code."""
    try:
        from tui_gru.cli import program

        code = program.main()
    except KeyboardInterrupt:  # while it was still importing
        code = 130
    sys.exit(code)


if __name__ == "__main__":
    main()
