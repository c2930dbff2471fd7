"""SuperAnimal's own networks applied exactly as the reference does it: crops, normalisation, decoding, boxes."""
