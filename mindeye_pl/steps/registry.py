"""All steps by name."""

from mindeye_pl.engine.step import Step
from mindeye_pl.steps.baselines.images import BASELINES, DRAW_IN_CONTEXT
from mindeye_pl.steps.baselines.ridge import RIDGE_NOISE_FREE, RIDGE_TOKENS
from mindeye_pl.steps.brain.alignment.closed_form import CLOSED_FORM
from mindeye_pl.steps.brain.alignment.episodes import EPISODES
from mindeye_pl.steps.brain.bottleneck import FIT_BOTTLENECK
from mindeye_pl.steps.brain.finetune import FINETUNE
from mindeye_pl.steps.brain.finetune_generator import FINETUNE_GENERATOR
from mindeye_pl.steps.brain.in_context.decode import DECODE_IN_CONTEXT
from mindeye_pl.steps.brain.in_context.prior import FIT_VOXEL_PRIOR
from mindeye_pl.steps.brain.in_context.transformer import PRETRAIN_VOXEL_TRANSFORMER
from mindeye_pl.steps.brain.linear_blur import FIT_LINEAR_BLUR
from mindeye_pl.steps.brain.pretrain import PRETRAIN
from mindeye_pl.steps.brain.reconstruct import RECONSTRUCT
from mindeye_pl.steps.brain.synthetic_trials import SYNTHESISE_TRIALS
from mindeye_pl.steps.brain.voxel_clusters import CLUSTER_VOXELS, PLACE_VOXELS
from mindeye_pl.steps.evaluation.brain_maps import BRAIN_MAPS
from mindeye_pl.steps.evaluation.encoder import FIT_ENCODER
from mindeye_pl.steps.evaluation.in_context import EVALUATE_IN_CONTEXT
from mindeye_pl.steps.evaluation.reconstructions import EVALUATE_RECONSTRUCTIONS
from mindeye_pl.steps.evaluation.retrieval import EVALUATE
from mindeye_pl.steps.evaluation.true_tokens import DRAW_TRUE_TOKENS
from mindeye_pl.steps.foundation.distillation import DISTIL_UNCLIP
from mindeye_pl.steps.foundation.evaluate import EVALUATE_FOUNDATION
from mindeye_pl.steps.foundation.evaluate_generator import EVALUATE_GENERATOR
from mindeye_pl.steps.foundation.generator import PRETRAIN_GENERATOR
from mindeye_pl.steps.foundation.images import SCENES
from mindeye_pl.steps.foundation.laptop import PRETRAIN_CAPTIONER, PRETRAIN_CLIP, PRETRAIN_VAE
from mindeye_pl.steps.foundation.unclip import PRETRAIN_UNCLIP
from mindeye_pl.steps.gallery.index import BUILD_INDEX, EMBED_GALLERY
from mindeye_pl.steps.gallery.retrieve import RETRIEVE
from mindeye_pl.steps.inputs.captions import SCREEN_CAPTIONS
from mindeye_pl.steps.inputs.convert_mindeye1 import CONVERT_MINDEYE1
from mindeye_pl.steps.inputs.prepare_nsd import PREPARE_NSD
from mindeye_pl.steps.inputs.prepare_own import PREPARE_OWN
from mindeye_pl.steps.inputs.simulate import SIMULATE

_INPUTS = (SIMULATE, CONVERT_MINDEYE1, PREPARE_NSD, PREPARE_OWN, SCREEN_CAPTIONS)
_BRAIN = (
    *(CLUSTER_VOXELS, PRETRAIN, EPISODES, CLOSED_FORM, PLACE_VOXELS, SYNTHESISE_TRIALS),
    *(FINETUNE, FIT_BOTTLENECK, FIT_LINEAR_BLUR, FINETUNE_GENERATOR, RECONSTRUCT),
)
_IN_CONTEXT = (FIT_VOXEL_PRIOR, PRETRAIN_VOXEL_TRANSFORMER, DECODE_IN_CONTEXT, DRAW_IN_CONTEXT, EVALUATE_IN_CONTEXT)
_BASELINES = (RIDGE_TOKENS, RIDGE_NOISE_FREE, *BASELINES)
_EVALUATION = (EVALUATE, FIT_ENCODER, DRAW_TRUE_TOKENS, EVALUATE_RECONSTRUCTIONS, BRAIN_MAPS)
_FOUNDATION = (
    *(SCENES, PRETRAIN_CLIP, PRETRAIN_VAE, PRETRAIN_UNCLIP, PRETRAIN_CAPTIONER, EVALUATE_FOUNDATION),
    *(DISTIL_UNCLIP, PRETRAIN_GENERATOR, EVALUATE_GENERATOR),
)
_GALLERY = (EMBED_GALLERY, BUILD_INDEX, RETRIEVE)

_ALL = (*_INPUTS, *_BRAIN, *_BASELINES, *_IN_CONTEXT, *_EVALUATION, *_FOUNDATION, *_GALLERY)

STEPS: dict[str, Step] = {step.name: step for step in _ALL}
