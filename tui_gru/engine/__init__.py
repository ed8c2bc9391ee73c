"""The mathematics of the GRU: corpus, cell, loss, backward pass, training, sampling. Knows no debugger and no screen."""
