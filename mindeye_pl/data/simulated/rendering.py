"""Rendering of scenes as images, with edges antialiased by their signed distance."""

from functools import cache

import numpy as np

from mindeye_pl.data.simulated.scenes import Background, Scene, SceneObject


def render(scene: Scene, size: int) -> np.ndarray:
    """Render a scene, `(3, size, size)` float32 RGB in [0, 1]."""
    image = _paint_background(scene.background, size)
    for scene_object in reversed(scene.objects):
        _paint_object(image, scene_object)
    return image


@cache
def _axis(size: int) -> np.ndarray:
    """Return pixel centres in units of half an image, (size,)."""
    return ((np.arange(size) + 0.5) * (2 / size) - 1).astype(np.float32)


def _paint_background(background: Background, size: int) -> np.ndarray:
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
    reach = scene_object.radius * 1.05 + pixel
    left, right = np.searchsorted(axis, (centre_x - reach, centre_x + reach))
    top, bottom = np.searchsorted(axis, (centre_y - reach, centre_y + reach))
    if left == right or top == bottom:
        return
    x = (axis[left:right] - np.float32(centre_x)) / np.float32(scene_object.radius)
    y = (axis[top:bottom, None] - np.float32(centre_y)) / np.float32(scene_object.radius)
    cos, sin = np.float32(np.cos(scene_object.angle)), np.float32(np.sin(scene_object.angle))
    u, v = x * cos + y * sin, y * cos - x * sin  # the object's own axes, in units of its radius
    per_pixel = np.float32(scene_object.radius / pixel)
    cover = np.clip(0.5 - _distance(scene_object.shape, u, v) * per_pixel, 0, 1)
    shade = 1 - 0.18 * (u + v) / 2 - 0.45 * _pattern(scene_object.texture, u, v, per_pixel)
    colour = np.array(scene_object.rgb, np.float32)[:, None, None]
    # Dark colours get a lighter pattern, because a darker one would be invisible.
    painted = colour * shade if max(scene_object.rgb) > 0.3 else 1 - (1 - colour) * shade
    region = image[:, top:bottom, left:right]
    region += cover * (np.clip(painted, 0, 1) - region)


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


def _distance(shape: str, u: np.ndarray, v: np.ndarray) -> np.ndarray:
    """Return the signed distance to the edge of a shape of radius 1 around the origin, negative inside."""
    if shape == "circle":
        return np.hypot(u, v) - 0.95
    if shape == "square":
        return np.maximum(np.abs(u), np.abs(v)) - 0.8
    if shape == "triangle":
        side = np.abs(u) * np.float32(np.sqrt(3) / 2) - v / 2  # distance along the normal of both upper sides
        return np.maximum(side, v) - 0.5
    if shape == "diamond":
        return (np.abs(u) * 1.5 + np.abs(v) - 1) / np.float32(np.hypot(1.5, 1))
    if shape == "ring":
        return np.abs(np.hypot(u, v) - 0.7) - 0.25
    if shape == "cross":
        along_u = np.maximum(np.abs(u) - 0.95, np.abs(v) - 0.3)
        return np.minimum(along_u, np.maximum(np.abs(v) - 0.95, np.abs(u) - 0.3))
    if shape == "crescent":
        return np.maximum(np.hypot(u, v) - 0.95, 0.75 - np.hypot(u - 0.45, v))
    assert shape == "star", shape
    return _star(u, v)


def _star(u: np.ndarray, v: np.ndarray) -> np.ndarray:
    """Return the distance to a star with five points at radius 1 and notches at radius 0.42, one point upwards."""
    fifth = np.float32(2 * np.pi / 5)
    turn = (np.arctan2(u, -v) + fifth / 2) % fifth - fifth / 2
    radius = np.hypot(u, v)
    along, beside = radius * np.cos(turn), radius * np.abs(np.sin(turn))
    notch = 0.42 * np.array([np.cos(np.pi / 5), np.sin(np.pi / 5)], np.float32)
    normal = np.array([notch[1], 1 - notch[0]], np.float32)
    normal /= np.hypot(*normal)
    return (along - 1) * normal[0] + beside * normal[1]
