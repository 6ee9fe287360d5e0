"""Feature networks that image metrics and encoders use."""
