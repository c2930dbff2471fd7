"""The released SuperAnimal models: what there is, their networks, and reading their weights safely."""
