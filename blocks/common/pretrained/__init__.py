"""Networks that were trained elsewhere, as parts of a model: frozen modules, their weight files, guidance by them."""
