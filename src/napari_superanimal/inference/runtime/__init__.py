"""How a network is run: by torch or OpenVINO, in float32 or bfloat16, and which of these is best here."""
