"""What developers and operators type and see."""
