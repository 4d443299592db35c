"""Planning: who starts when, and where. Pure; counts GPUs, knows no users."""
