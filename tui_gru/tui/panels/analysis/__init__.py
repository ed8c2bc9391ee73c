"""What the network does: units, influence, sources of the loss, arrays, findings."""
