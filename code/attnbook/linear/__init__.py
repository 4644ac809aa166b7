"""Linear attention: one recurrence in three forms, and the layers built on it."""
