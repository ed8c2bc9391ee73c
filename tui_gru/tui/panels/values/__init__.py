"""The values of the current timestep and batch: sequence, gates, softmax, loss, gradients, weights, samples."""
