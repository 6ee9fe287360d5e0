"""Steps and readers of what a training needs: data, captions, targets, frozen models."""
