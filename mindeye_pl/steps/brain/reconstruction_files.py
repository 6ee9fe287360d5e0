"""File names of reconstructions: those of the step `reconstruct`, and the published ones (MindEye2, spec section 8)."""

#: Of the step: `stimulus_ids` and images by name, one sentence for each, and how they were made.
RECONSTRUCTIONS, CAPTIONS, SETTINGS = "reconstructions.safetensors", "captions.json", "settings.json"

#: Ends of the published names behind the model's: from the unCLIP, refined, from the low-level branch.
PUBLISHED_IMAGES = ("_all_recons", "_all_enhancedrecons", "_all_blurryrecons")

#: End of the published captions' name; the captions stand beside the images.
PUBLISHED_CAPTIONS = "_all_predcaptions"

#: Test images that MindEye1 has, of the split without the last three sessions.
MINDEYE1_TEST_IMAGES = 982
