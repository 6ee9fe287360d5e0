"""Training of the foundation models: CLIP, VAE, unCLIP and captioner.

Legend: B batch, S tokens, D token width, C latent channels, h and w latent size, H and W image size.
"""

from abc import abstractmethod
from typing import TYPE_CHECKING, Any

import torch
from pytorch_lightning import LightningModule
from pytorch_lightning.utilities.types import OptimizerLRScheduler
from torch import Tensor, nn
from torch.optim import AdamW
from torch.optim.lr_scheduler import LambdaLR, LRScheduler, OneCycleLR

from mindeye_pl.nn.diffusion.captioner import Captioner
from mindeye_pl.nn.diffusion.regressed_tokens import RegressedTokens
from mindeye_pl.nn.diffusion.unclip import UnCLIPModel
from mindeye_pl.types import ImageBatch, PartLoss

if TYPE_CHECKING:
    import open_clip
    from diffusers.models.autoencoders.autoencoder_kl import AutoencoderKL


class Foundation(LightningModule):
    """Base of foundation models in training; a subclass defines the loss.

    Args:
        network: the network that is trained.
        max_lr: maximal learning rate.
        weight_decay: AdamW's weight decay.
        warmup_steps: None takes a one-cycle schedule, from a 25th of `max_lr` up and down to almost 0; a number takes
            a linear rise and then a constant learning rate, as in the published unCLIP's training.
    """

    def __init__(
        self, network: nn.Module, *, max_lr: float, weight_decay: float = 1e-2, warmup_steps: int | None = None
    ):
        super().__init__()
        self.network = network
        self.max_lr, self.weight_decay, self.warmup_steps = max_lr, weight_decay, warmup_steps

    @abstractmethod
    def compute_loss(self, batch: ImageBatch) -> PartLoss:
        """Return the loss of a batch."""

    def training_step(self, batch: ImageBatch, batch_index: int) -> Tensor:
        """Return the loss; log it and each of its parts."""
        loss = self.compute_loss(batch)
        self.log_dict(loss.named("train"), on_step=True, on_epoch=True, batch_size=len(batch), sync_dist=True)
        return loss.total

    def validation_step(self, batch: ImageBatch, batch_index: int) -> None:
        """Log the loss on held-out images."""
        named = self.compute_loss(batch).named("validation")
        self.log_dict(named, on_step=False, on_epoch=True, batch_size=len(batch), sync_dist=True)

    def configure_optimizers(self) -> OptimizerLRScheduler:
        """Return AdamW of the trainable parameters and its schedule, stepped with it."""
        trainable = [p for p in self.network.parameters() if p.requires_grad]
        optimizer = AdamW(trainable, lr=self.max_lr, weight_decay=self.weight_decay)
        scheduler: LRScheduler
        if self.warmup_steps is None:
            steps = int(self.trainer.estimated_stepping_batches)
            rise = max(0.1, min(2 / steps, 0.75))  # more than one of two steps: a rise of no length divides by zero
            scheduler = OneCycleLR(optimizer, self.max_lr, total_steps=steps, pct_start=rise)
        else:
            warmup = max(self.warmup_steps, 1)
            scheduler = LambdaLR(optimizer, lambda step: min((step + 1) / warmup, 1.0))
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": scheduler, "interval": "step"}}


class CLIPTraining(Foundation):
    """CLIP on images and captions, with open_clip's own loss."""

    network: "open_clip.CLIP"

    def compute_loss(self, batch: ImageBatch) -> PartLoss:
        """Return the loss of `images` `(B, 3, H, W)`, normalised as CLIP's input, and `words` `(B, L)` token ids."""
        from open_clip.loss import ClipLoss

        image, text, scale = self.network(batch["images"], batch["words"])
        return PartLoss(ClipLoss()(image, text, scale))


class VAETraining(Foundation):
    """VAE on images: L1 of the decoded images, and a small KL divergence of the latents to a standard normal."""

    network: "AutoencoderKL"

    def __init__(self, network: "AutoencoderKL", *, kl_scale: float = 1e-4, **settings: Any):
        super().__init__(network, **settings)
        self.kl_scale = kl_scale

    def compute_loss(self, batch: ImageBatch) -> PartLoss:
        """Return the loss of `images` `(B, 3, H, W)` in [0, 1]; the L1 is computed in [-1, 1]."""
        images = 2 * batch["images"] - 1
        latents = self.network.encode(images).latent_dist
        decoded = self.network.decode(latents.sample()).sample
        l1 = (decoded.float() - images).abs().mean()
        kl = self.kl_scale * latents.kl().float().mean()
        return PartLoss(l1 + kl, {"l1": l1.detach(), "kl": kl.detach()})


class UnCLIPTraining(Foundation):
    """unCLIP on the images' tokens; the VAE is frozen, its moments are part of the batch.

    Args:
        network: the unCLIP.
        offset: amplitude of the offset noise.
        drop: fraction of images without condition, for learned null tokens.
        checkpointing: saves memory in the UNet by gradient checkpointing, which takes time.
        regressed: replaces some of the images' tokens in training, so that the unCLIP can read those of a brain.
        settings: those of `Foundation`.
    """

    network: UnCLIPModel

    def __init__(
        self,
        network: UnCLIPModel,
        *,
        offset: float,
        drop: float,
        checkpointing: bool = False,
        regressed: RegressedTokens | None = None,
        **settings: Any,
    ):
        super().__init__(network, **settings)
        self.offset, self.drop, self.regressed = offset, drop, regressed
        network.vae.requires_grad_(False)
        if checkpointing:
            network.unet.enable_gradient_checkpointing()

    def compute_loss(self, batch: ImageBatch) -> PartLoss:
        """Return the loss of `moments` `(B, 2 C, h * w)` of the VAE's posterior, `tokens` `(B, S, D)` and sizes.

        The latter are `size_and_crop` `(B, 4)`, see `UnCLIPModel.size_vectors`.
        """
        mean, log_variance = batch["moments"].unflatten(-1, self.network.latent_shape[1:]).chunk(2, dim=1)
        latents = mean + (log_variance.clamp(-30, 20) / 2).exp() * torch.randn_like(mean)
        latents = latents * self.network.vae.config["scaling_factor"]
        drop = self.drop if self.training else 0.0
        tokens = self.regressed(batch["tokens"]) if self.regressed and self.training else batch["tokens"]
        vector = self.network.size_vectors(batch["size_and_crop"])  # (B, E)
        return PartLoss(self.network.loss(latents, tokens, vector, offset=self.offset, drop=drop))


class CaptionTraining(Foundation):
    """Captioner on the images' tokens.

    Args:
        network: the captioner.
        token_noise: maximal standard deviation of the noise on standardised tokens; each image's is sampled uniformly
            between 0 and this, so that the captioner can read tokens predicted from brains.
        settings: those of `Foundation`.
    """

    network: Captioner

    def __init__(self, network: Captioner, *, token_noise: float, **settings: Any):
        super().__init__(network, **settings)
        self.token_noise = token_noise

    def compute_loss(self, batch: ImageBatch) -> PartLoss:
        """Return the loss of `tokens` `(B, S, D)` and `words` `(B, L)` token ids."""
        tokens = batch["tokens"].float()
        if self.training and self.token_noise:
            amplitude = self.token_noise * torch.rand(len(tokens), 1, 1, device=tokens.device)
            tokens = tokens + amplitude * torch.randn_like(tokens)
        return PartLoss(self.network.loss(tokens, batch["words"]))
