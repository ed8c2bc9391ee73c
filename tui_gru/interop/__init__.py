"""Models of other frameworks: readers of model files, the convention of their numbers, and capture of training scripts."""
