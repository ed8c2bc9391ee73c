"""The mathematics of the models: corpus, compiled forward and backward pass, update, training, sampling. Imports neither the
debugger nor the screen."""
