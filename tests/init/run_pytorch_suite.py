"""Runs PyTorch's own tests of torch.nn.init against firstlight.init: `python run_pytorch_suite.py path/to/test_init.py`.

The file is `test/nn/test_init.py` of a PyTorch checkout of the installed version; it is PyTorch's and is not kept here. It
needs what PyTorch's test helpers import (expecttest).
"""

import os
import sys
import unittest
from pathlib import Path

os.environ.setdefault("PYTORCH_TEST_WITH_SLOW", "1")

import torch

import firstlight.init


def main() -> None:
    """Load the file with firstlight.init in the place of torch.nn.init, and run every test in it."""
    path = Path(sys.argv[1])
    sys.modules["torch.nn.init"] = firstlight.init
    torch.nn.init = firstlight.init
    module = type(sys)("pytorch_test_init")
    sys.modules[module.__name__] = module
    exec(compile(path.read_text(), str(path), "exec"), module.__dict__)
    suite = unittest.defaultTestLoader.loadTestsFromModule(module)
    result = unittest.TextTestRunner(verbosity=1).run(suite)
    sys.exit(not result.wasSuccessful())


if __name__ == "__main__":
    main()
