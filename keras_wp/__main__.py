"""`python -m keras_wp`: see `keras_wp.cli`."""

import sys

from keras_wp.cli import main

if __name__ == "__main__":
    sys.exit(main())
