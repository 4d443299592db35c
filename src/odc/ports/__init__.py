"""What the control plane asks of the outside, as contracts without code."""
