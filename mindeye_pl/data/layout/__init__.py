"""Working layout of a dataset: MindEye2's file layout, which every dataset is prepared into and read from."""
