"""The interfaces of the control plane to the outside, as contracts without code."""
