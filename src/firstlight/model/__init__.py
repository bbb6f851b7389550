"""Reading a model: targets name one, roles.py says what each tensor is for, from its operators or else its modules."""
