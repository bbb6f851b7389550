"""For all tests: which files are not looked through for doctests, and that interrupts reach the commands they start.

Files are left out that import what is not everywhere. Those with Lightning and transformers are imported by their own
tests. Those with JAX or Keras are tested in processes of their own, by tests/integrations/test_other_libraries.py; those
with triton by tests/random/test_triton.py.
"""

import signal

collect_ignore = [
    "src/firstlight/integrations/huggingface.py",
    "src/firstlight/integrations/jax.py",
    "src/firstlight/integrations/keras.py",
    "src/firstlight/integrations/lightning.py",
    "tests/integrations/jax_checks.py",
    "tests/integrations/keras_checks.py",
    "src/firstlight/random/triton_double.py",
    "src/firstlight/random/triton_fill.py",
    "src/firstlight/random/triton_kernels.py",
]

if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:  # inherited from a shell that started pytest in the background
    signal.signal(signal.SIGINT, signal.default_int_handler)
