"""Rendering of scenes as images, with edges antialiased by their signed distance."""

from functools import cache

import numpy as np

from mindeye_pl.data.simulated.objects import distance, drawing
from mindeye_pl.data.simulated.scenes import Background, Scene, SceneObject

#: Distance of a drawing's farthest point from its centre, in radii.
_REACH = 1.45
#: Fractions by which the pattern and the details are darker than the object's colour.
_SHADE, _DETAIL_SHADE = 0.3, 0.62
#: Colours whose brightest channel is below this are lightened.
_DARK = 0.3


def render(scene: Scene, size: int) -> np.ndarray:
    """Render a scene, `(3, size, size)` float32 RGB in [0, 1]."""
    image = paint_background(scene.background, size)
    for scene_object in reversed(scene.objects):
        _paint_object(image, scene_object)
    return image


@cache
def _axis(size: int) -> np.ndarray:
    """Return pixel centres in units of half an image, (size,)."""
    return ((np.arange(size) + 0.5) * (2 / size) - 1).astype(np.float32)


def paint_background(background: Background, size: int) -> np.ndarray:
    """Render a background alone, `(3, size, size)` float32 RGB in [0, 1]."""
    x, y = _axis(size), _axis(size)[:, None]
    cos, sin = np.float32(np.cos(background.angle)), np.float32(np.sin(background.angle))
    along, across = x * cos + y * sin, y * cos - x * sin
    period, soft = np.float32(2 / background.frequency), np.float32(size / 2)
    phases = np.array(background.phases, np.float32)
    mix: np.ndarray
    if background.kind == "gradient":
        mix = 0.5 + 0.5 * along
    elif background.kind == "horizon":
        mix = 0.5 + (across - 0.8 * (phases[0] - 0.5)) * soft
    elif background.kind == "stripes":
        mix = 0.5 + _square_wave(along, period, phases[0]) * soft
    elif background.kind == "checks":
        one, other = _square_wave(along, period, phases[0]), _square_wave(across, period, phases[1])
        mix = 0.5 + np.sign(one * other) * np.minimum(np.abs(one), np.abs(other)) * soft
    else:
        mix = _clouds(x, y, phases)
    mix = np.clip(mix, 0, 1)
    first, second = np.array(background.rgbs, np.float32)[:, :, None, None]
    return first + (second - first) * mix


def _square_wave(position: np.ndarray, period: np.float32, phase: np.float32) -> np.ndarray:
    """Return the signed distance to the nearest edge of stripes that are half a period wide."""
    fraction = (position / period + phase) % 1  # of the period
    return (0.25 - np.abs(fraction - 0.5)) * period


def _clouds(x: np.ndarray, y: np.ndarray, phases: np.ndarray) -> np.ndarray:
    """Return a sum of a few long waves, in about [0, 1]."""
    shifts, turns = np.split(phases * np.float32(2 * np.pi), 2)
    waves = [
        np.cos(np.float32(2 + 1.5 * i) * (x * np.cos(turn) + y * np.sin(turn)) + shift) / np.float32(1 + 0.5 * i)
        for i, (shift, turn) in enumerate(zip(shifts, turns, strict=True))
    ]
    return 0.5 + 0.35 * np.sum(waves, axis=0)


def _paint_object(image: np.ndarray, scene_object: SceneObject) -> None:
    """Paint an object over its region of the image."""
    size = image.shape[-1]
    axis, pixel = _axis(size), 2 / size
    centre_x, centre_y = scene_object.centre
    reach = scene_object.radius * _REACH + pixel
    left, right = np.searchsorted(axis, (centre_x - reach, centre_x + reach))
    top, bottom = np.searchsorted(axis, (centre_y - reach, centre_y + reach))
    x = (axis[left:right] - np.float32(centre_x)) / np.float32(scene_object.radius)
    y = (axis[top:bottom, None] - np.float32(centre_y)) / np.float32(scene_object.radius)
    cos, sin = np.float32(np.cos(scene_object.angle)), np.float32(np.sin(scene_object.angle))
    u, v = x * cos + y * sin, y * cos - x * sin  # the object's own axes, in units of its radius
    per_pixel = np.float32(scene_object.radius / pixel)
    shade = _SHADE * _pattern(scene_object.texture, u, v, per_pixel)
    region = image[:, top:bottom, left:right]
    for part in drawing(scene_object.category):
        cover = np.clip(0.5 - distance(part, u, v) * per_pixel, 0, 1)
        tone = _tone(scene_object.rgb, _DETAIL_SHADE if part.is_detail else shade)
        region += cover * (tone - region)


def _tone(rgb: tuple[float, float, float], shade: np.ndarray | float) -> np.ndarray:
    """Return a colour darkened by a fraction, (3, 1, 1) or (3, rows, columns); a dark one is lightened instead."""
    colour = np.array(rgb, np.float32)[:, None, None]
    kept = np.float32(1) - np.asarray(shade, np.float32)
    return colour * kept if max(rgb) > _DARK else 1 - (1 - colour) * kept


def _pattern(texture: str, u: np.ndarray, v: np.ndarray, per_pixel: np.float32) -> np.ndarray:
    """Return a mask that is 1 where the texture is darker, (rows, columns)."""
    if texture == "plain":
        return np.zeros_like(u)
    if texture == "striped":
        distance = _square_wave(v, np.float32(0.5), np.float32(0.1))
    else:
        cells = (u / 0.5 + 0.5) % 1 - 0.5, (v / 0.5 + 0.5) % 1 - 0.5
        distance = 0.14 - 0.5 * np.hypot(*cells)
    return np.clip(0.5 + distance * per_pixel, 0, 1)
