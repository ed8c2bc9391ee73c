"""Panels that analyse the network: units, influence, losses by place, arrays, findings."""
