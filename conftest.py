"""Files that import JAX or Keras are tested in processes of their own, by tests/integrations/test_other_libraries.py."""

collect_ignore = [
    "src/firstlight/integrations/jax.py",
    "src/firstlight/integrations/keras.py",
    "tests/integrations/jax_checks.py",
    "tests/integrations/keras_checks.py",
]
