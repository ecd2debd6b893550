"""What every store of batches promises: one suite, every adapter. A new adapter is one line in `worlds.WORLDS`."""
