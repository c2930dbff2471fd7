"""Networks, model cards and the zoo."""
