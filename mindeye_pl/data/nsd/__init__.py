"""Facts of the Natural Scenes Dataset."""
