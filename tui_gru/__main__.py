"""The entry point of `python -m tui_gru` and of the command `tui-gru`."""

import os
import sys

# Set before NumPy is loaded. The matrices are small: a second thread costs more time than it saves (ten times more on a busy
# machine), and the last bits of a product may depend on the number of threads.
for variable in ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ.setdefault(variable, "1")


def main() -> None:
    """Run the command line and exit with its exit code."""
    try:
        from tui_gru.cli import commands as program

        code = program.main()
    except KeyboardInterrupt:  # during an import
        code = 130
    sys.exit(code)


if __name__ == "__main__":
    main()
